# Files that containers share: the update repository, the broker's configuration, the cloud's with the device authority.
resource "azurerm_storage_account" "this" {
  name                            = "fieldwatch${var.environment}${var.suffix}"
  resource_group_name             = azurerm_resource_group.this.name
  location                        = azurerm_resource_group.this.location
  account_kind                    = "StorageV2"
  account_tier                    = "Standard"
  account_replication_type        = var.storage_replication
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  public_network_access           = "Disabled"
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = true # container environments mount file shares by key; there is no other way yet
  tags                            = local.tags

  network_rules {
    default_action = "Deny"
    bypass         = ["AzureServices"] # the backup
  }

  share_properties {
    retention_policy {
      days = 30
    }

    smb {
      versions                = ["SMB3.1.1"]
      channel_encryption_type = ["AES-256-GCM"]
    }
  }
}

resource "azurerm_storage_share" "this" {
  for_each = {
    updates = 50
    broker  = 1 # mosquitto.conf, access.acl, ca.pem, server.pem, server.key, revoked.pem
    cloud   = 5 # cloud.toml, and the authority of the devices' certificates, which is not the broker's to read
  }

  name               = each.key
  storage_account_id = azurerm_storage_account.this.id
  quota              = each.value
}

resource "azurerm_private_endpoint" "files" {
  name                = "${local.name}-files"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  subnet_id           = azurerm_subnet.endpoints.id
  tags                = local.tags

  private_service_connection {
    name                           = "files"
    private_connection_resource_id = azurerm_storage_account.this.id
    subresource_names              = ["file"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "files"
    private_dns_zone_ids = [azurerm_private_dns_zone.this["files"].id]
  }
}

resource "azurerm_recovery_services_vault" "this" {
  name                          = local.name
  resource_group_name           = azurerm_resource_group.this.name
  location                      = azurerm_resource_group.this.location
  sku                           = "Standard"
  storage_mode_type             = var.storage_replication == "LRS" ? "LocallyRedundant" : "GeoRedundant"
  immutability                  = var.locked ? "Unlocked" : "Disabled"
  public_network_access_enabled = false
  tags                          = local.tags
}

resource "azurerm_backup_policy_file_share" "daily" {
  name                = "daily"
  resource_group_name = azurerm_resource_group.this.name
  recovery_vault_name = azurerm_recovery_services_vault.this.name
  timezone            = "UTC"

  backup {
    frequency = "Daily"
    time      = "02:00"
  }

  retention_daily {
    count = var.file_backup_days
  }
}

resource "azurerm_backup_container_storage_account" "this" {
  resource_group_name = azurerm_resource_group.this.name
  recovery_vault_name = azurerm_recovery_services_vault.this.name
  storage_account_id  = azurerm_storage_account.this.id
}

resource "azurerm_backup_protected_file_share" "this" {
  for_each = azurerm_storage_share.this

  resource_group_name       = azurerm_resource_group.this.name
  recovery_vault_name       = azurerm_recovery_services_vault.this.name
  source_storage_account_id = azurerm_backup_container_storage_account.this.storage_account_id
  source_file_share_name    = each.value.name
  backup_policy_id          = azurerm_backup_policy_file_share.daily.id
}

resource "azurerm_management_lock" "files" {
  count = var.locked ? 1 : 0

  name       = "keep"
  scope      = azurerm_storage_account.this.id
  lock_level = "CanNotDelete"
  notes      = "It holds the signed bundles and the authority of the devices' certificates."
}
