data "azurerm_client_config" "current" {}

locals {
  name = "fieldwatch-${var.environment}"
  tags = {
    application = "fieldwatch"
    environment = var.environment
  }
}

resource "azurerm_resource_group" "this" {
  name     = local.name
  location = var.location
  tags     = local.tags
}

# What the containers are, in Azure's eyes: it may read secrets, nothing else.
resource "azurerm_user_assigned_identity" "apps" {
  name                = "${local.name}-apps"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}
