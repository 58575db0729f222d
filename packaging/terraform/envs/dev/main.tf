terraform {
  required_version = ">= 1.9"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 5.10"
    }
  }

  # terraform init -backend-config=backend.hcl: where the state lies is the installation's own.
  backend "azurerm" {
    key              = "fieldwatch-dev.tfstate"
    use_azuread_auth = true
    use_oidc         = true
  }
}

provider "azurerm" {
  subscription_id     = var.subscription_id
  use_oidc            = true
  storage_use_azuread = true

  features {
    key_vault {
      purge_soft_delete_on_destroy = false
    }

    resource_group {
      prevent_deletion_if_contains_resources = true
    }
  }
}

module "fieldwatch" {
  source = "../../modules/fieldwatch"

  environment         = "dev"
  location            = var.location
  suffix              = var.suffix
  address_space       = var.address_space
  images              = var.images
  alert_emails        = var.alert_emails
  database            = var.database
  database_password   = var.database_password
  storage_replication = var.storage_replication
  file_backup_days    = var.file_backup_days
  log_days            = var.log_days
  locked              = var.locked
}

output "addresses" {
  description = "What the names of one's own domain point to."
  value = {
    broker    = module.fieldwatch.broker
    enrolment = module.fieldwatch.enrolment
    dashboard = module.fieldwatch.dashboard
    updates   = module.fieldwatch.updates
  }
}
