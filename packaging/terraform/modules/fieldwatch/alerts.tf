# Trouble of the installation itself. What the devices' models find is the cloud's own to tell (docs/operate-cloud.md).
resource "azurerm_log_analytics_workspace" "this" {
  name                = local.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "PerGB2018"
  retention_in_days   = var.log_days
  tags                = local.tags
}

resource "azurerm_monitor_diagnostic_setting" "vault" {
  name                       = "audit"
  target_resource_id         = azurerm_key_vault.this.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id

  enabled_log {
    category_group = "audit"
  }
}

resource "azurerm_monitor_diagnostic_setting" "database" {
  name                       = "logs"
  target_resource_id         = azurerm_postgresql_flexible_server.this.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id

  enabled_log {
    category_group = "allLogs"
  }
}

resource "azurerm_monitor_action_group" "people" {
  name                = local.name
  resource_group_name = azurerm_resource_group.this.name
  short_name          = "fieldwatch"
  tags                = local.tags

  dynamic "email_receiver" {
    for_each = toset(var.alert_emails)

    content {
      name                    = email_receiver.value
      email_address           = email_receiver.value
      use_common_alert_schema = true
    }
  }
}

resource "azurerm_monitor_metric_alert" "database" {
  for_each = {
    storage_percent = 80
    cpu_percent     = 90
  }

  name                = "${local.name}-database-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  scopes              = [azurerm_postgresql_flexible_server.this.id]
  description         = "The database's ${each.key} is above ${each.value}."
  severity            = 1
  frequency           = "PT5M"
  window_size         = "PT15M"
  tags                = local.tags

  criteria {
    metric_namespace = "Microsoft.DBforPostgreSQL/flexibleServers"
    metric_name      = each.key
    aggregation      = "Average"
    operator         = "GreaterThan"
    threshold        = each.value
  }

  action {
    action_group_id = azurerm_monitor_action_group.people.id
  }
}

resource "azurerm_monitor_metric_alert" "restarts" {
  for_each = {
    broker    = azurerm_container_app.broker.id
    cloud     = azurerm_container_app.cloud.id
    enrolment = azurerm_container_app.enrolment.id
    updates   = azurerm_container_app.updates.id
  }

  name                = "${local.name}-${each.key}-restarts"
  resource_group_name = azurerm_resource_group.this.name
  scopes              = [each.value]
  description         = "The container ${each.key} was restarted more than twice within a quarter of an hour."
  severity            = 1
  frequency           = "PT5M"
  window_size         = "PT15M"
  tags                = local.tags

  criteria {
    metric_namespace = "Microsoft.App/containerapps"
    metric_name      = "RestartCount"
    aggregation      = "Maximum"
    operator         = "GreaterThan"
    threshold        = 2
  }

  action {
    action_group_id = azurerm_monitor_action_group.people.id
  }
}

# The absence of logs: the cloud writes a line at least every few minutes while devices report.
resource "azurerm_monitor_scheduled_query_rules_alert_v2" "silent" {
  name                 = "${local.name}-silent"
  resource_group_name  = azurerm_resource_group.this.name
  location             = azurerm_resource_group.this.location
  scopes               = [azurerm_log_analytics_workspace.this.id]
  description          = "The cloud has logged nothing for an hour."
  severity             = 0
  evaluation_frequency = "PT15M"
  window_duration      = "PT1H"
  tags                 = local.tags

  criteria {
    query                   = "ContainerAppConsoleLogs_CL | where ContainerAppName_s == 'cloud'"
    time_aggregation_method = "Count"
    operator                = "LessThan"
    threshold               = 1
  }

  action {
    action_groups = [azurerm_monitor_action_group.people.id]
  }
}
