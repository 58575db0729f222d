variable "environment" {
  description = "Which environment this is; part of every name."
  type        = string

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "The environment is dev or prod."
  }
}

variable "location" {
  description = "Azure region."
  type        = string
}

variable "suffix" {
  description = "Makes the names unique that are shared by all of Azure: 3 to 6 lower-case letters and digits."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{3,6}$", var.suffix))
    error_message = "The suffix has 3 to 6 lower-case letters and digits."
  }
}

variable "address_space" {
  description = "The network, a /20 or larger, as 10.20.0.0/20."
  type        = string
}

variable "images" {
  description = "Container images of the broker, the cloud and the update server, each by digest: what was tested runs."
  type = object({
    broker  = string
    cloud   = string
    updates = string
  })

  validation {
    condition     = alltrue([for image in values(var.images) : can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "An image is named by its digest: registry/name@sha256:…"
  }
}

variable "alert_emails" {
  description = "Who is told when the installation itself is in trouble; the devices' alerts are the cloud's own."
  type        = list(string)
}

variable "database" {
  description = "Size of the database, how long its backups are kept (days), and whether it survives the loss of a zone or region."
  type = object({
    sku         = string
    storage_mb  = number
    backup_days = number
    geo_backup  = bool
    standby     = bool
  })
}

variable "database_password" {
  description = "The database's administrator. Given by the pipeline, never in a file."
  type        = string
  sensitive   = true
}

variable "storage_replication" {
  description = "Of the files: LRS, ZRS, GRS or GZRS."
  type        = string
}

variable "file_backup_days" {
  description = "How long daily backups of the files are kept."
  type        = number
}

variable "log_days" {
  description = "How long logs are kept."
  type        = number
}

variable "locked" {
  description = "Whether database and files cannot be deleted before the lock is."
  type        = bool
}
