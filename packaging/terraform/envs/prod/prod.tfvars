# Survives the loss of a zone at once and that of a region from its backups; cannot be deleted by mistake.
location      = "westeurope"
suffix        = "lab01"
address_space = "10.30.0.0/20"
alert_emails  = ["fieldwatch@example.org"]

images = {
  broker  = "registry.example.org/fieldwatch/broker@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  cloud   = "registry.example.org/fieldwatch/cloud@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  updates = "registry.example.org/fieldwatch/updates@sha256:0000000000000000000000000000000000000000000000000000000000000000"
}

database = {
  sku         = "GP_Standard_D2ds_v5"
  storage_mb  = 131072
  backup_days = 35
  geo_backup  = true
  standby     = true
}

storage_replication = "GZRS"
file_backup_days    = 90
log_days            = 90
locked              = true
