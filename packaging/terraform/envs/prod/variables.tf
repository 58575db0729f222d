variable "subscription_id" {
  description = "The Azure subscription. Given by the pipeline."
  type        = string
  sensitive   = true
}

variable "database_password" {
  description = "The database's administrator. Given by the pipeline, never in a file."
  type        = string
  sensitive   = true
}

variable "location" {
  description = "Azure region."
  type        = string
}

variable "suffix" {
  description = "Makes the names unique that are shared by all of Azure."
  type        = string
}

variable "address_space" {
  description = "The network."
  type        = string
}

variable "images" {
  description = "Container images by digest."
  type = object({
    broker  = string
    cloud   = string
    updates = string
  })
}

variable "alert_emails" {
  description = "Who is told when the installation itself is in trouble."
  type        = list(string)
}

variable "database" {
  description = "Size, backups and redundancy of the database."
  type = object({
    sku         = string
    storage_mb  = number
    backup_days = number
    geo_backup  = bool
    standby     = bool
  })
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
