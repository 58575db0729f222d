# Small and cheap; may be lost. The images are placeholders until the pipeline has built the first ones.
location      = "westeurope"
suffix        = "lab01"
address_space = "10.20.0.0/20"
alert_emails  = ["fieldwatch-dev@example.org"]

images = {
  broker  = "registry.example.org/fieldwatch/broker@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  cloud   = "registry.example.org/fieldwatch/cloud@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  updates = "registry.example.org/fieldwatch/updates@sha256:0000000000000000000000000000000000000000000000000000000000000000"
}

database = {
  sku         = "B_Standard_B1ms"
  storage_mb  = 32768
  backup_days = 7
  geo_backup  = false
  standby     = false
}

storage_replication = "LRS"
file_backup_days    = 7
log_days            = 30
locked              = false
