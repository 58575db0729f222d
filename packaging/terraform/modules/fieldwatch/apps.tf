resource "azurerm_container_app_environment" "this" {
  name                           = local.name
  resource_group_name            = azurerm_resource_group.this.name
  location                       = azurerm_resource_group.this.location
  infrastructure_subnet_id       = azurerm_subnet.apps.id
  internal_load_balancer_enabled = false # devices come from the laboratories
  logs_destination               = "log-analytics"
  log_analytics_workspace_id     = azurerm_log_analytics_workspace.this.id
  tags                           = local.tags

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }
}

resource "azurerm_container_app_environment_storage" "this" {
  for_each = azurerm_storage_share.this

  name                         = each.key
  container_app_environment_id = azurerm_container_app_environment.this.id
  account_name                 = azurerm_storage_account.this.name
  access_key                   = azurerm_storage_account.this.primary_access_key
  share_name                   = each.value.name
  access_mode                  = each.key == "cloud" ? "ReadWrite" : "ReadOnly" # the release job writes the others
}

# Mosquitto with what `fieldwatch-cloud broker-config mosquitto` wrote into the share "broker". TLS ends in the broker, as
# the device's certificate is its name. It may lose its data: only the cloud's acknowledgement empties an outbox.
resource "azurerm_container_app" "broker" {
  name                         = "broker"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"
  tags                         = local.tags

  ingress {
    external_enabled = true
    transport        = "tcp"
    target_port      = 8883
    exposed_port     = 8883

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas = 1
    max_replicas = 1

    container {
      name    = "mosquitto"
      image   = var.images.broker
      cpu     = 0.5
      memory  = "1Gi"
      command = ["mosquitto", "-c", "/config/mosquitto.conf"]

      liveness_probe {
        transport = "TCP"
        port      = 8883
      }

      volume_mounts {
        name = "config"
        path = "/config"
      }

      volume_mounts {
        name = "data"
        path = "/var/lib/mosquitto"
      }
    }

    volume {
      name         = "config"
      storage_type = "AzureFile"
      storage_name = azurerm_container_app_environment_storage.this["broker"].name
    }

    volume {
      name         = "data"
      storage_type = "EmptyDir"
    }
  }
}

# Ingest, alerts and dashboard in one process.
resource "azurerm_container_app" "cloud" {
  name                         = "cloud"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"
  tags                         = local.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.apps.id]
  }

  secret {
    name                = "database-url"
    identity            = azurerm_user_assigned_identity.apps.id
    key_vault_secret_id = azurerm_key_vault_secret.database_url.versionless_id
  }

  ingress {
    external_enabled           = true
    allow_insecure_connections = false
    transport                  = "http"
    target_port                = 8080

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas = 1
    max_replicas = 1

    container {
      name    = "cloud"
      image   = var.images.cloud
      cpu     = 1
      memory  = "2Gi"
      command = ["fieldwatch-cloud", "serve", "--config", "/config/cloud.toml"]

      env {
        name        = "FIELDWATCH_DATABASE_URL"
        secret_name = "database-url"
      }

      # By port: the dashboard answers only under the name and by the way that people use, and a probe has neither.
      liveness_probe {
        transport = "TCP"
        port      = 8080
      }

      volume_mounts {
        name = "config"
        path = "/config"
      }
    }

    volume {
      name         = "config"
      storage_type = "AzureFile"
      storage_name = azurerm_container_app_environment_storage.this["cloud"].name
    }
  }

  depends_on = [azurerm_role_assignment.apps_read_secrets]
}

# Where devices get and renew their certificates; TLS ends in the program, with the authority's own certificate.
resource "azurerm_container_app" "enrolment" {
  name                         = "enrolment"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"
  tags                         = local.tags

  ingress {
    external_enabled = true
    transport        = "tcp"
    target_port      = 8443
    exposed_port     = 8443

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas = 1
    max_replicas = 1

    container {
      name    = "enrolment"
      image   = var.images.cloud
      cpu     = 0.25
      memory  = "0.5Gi"
      command = ["fieldwatch-cloud", "enrolment", "serve", "--config", "/config/enrolment.toml"]

      liveness_probe {
        transport = "TCP"
        port      = 8443
      }

      volume_mounts {
        name = "config"
        path = "/config"
      }
    }

    volume {
      name         = "config"
      storage_type = "AzureFile"
      storage_name = azurerm_container_app_environment_storage.this["cloud"].name
    }
  }
}

# The update repository as static files. Everything in it is signed off line; the server proves nothing.
resource "azurerm_container_app" "updates" {
  name                         = "updates"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"
  tags                         = local.tags

  ingress {
    external_enabled           = true
    allow_insecure_connections = false
    transport                  = "http"
    target_port                = 8000

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas = 1
    max_replicas = 3

    container {
      name   = "updates"
      image  = var.images.updates
      cpu    = 0.25
      memory = "0.5Gi"

      readiness_probe {
        transport = "HTTP"
        path      = "/metadata/timestamp.json"
        port      = 8000
      }

      volume_mounts {
        name = "updates"
        path = "/srv"
      }
    }

    volume {
      name         = "updates"
      storage_type = "AzureFile"
      storage_name = azurerm_container_app_environment_storage.this["updates"].name
    }
  }
}
