output "broker" {
  description = "What devices connect to: a CNAME to this, by the name in the broker's certificate."
  value       = azurerm_container_app.broker.ingress[0].fqdn
}

output "enrolment" {
  description = "Where devices enrol, port 8443."
  value       = azurerm_container_app.enrolment.ingress[0].fqdn
}

output "dashboard" {
  description = "The dashboard's address, before a name of one's own."
  value       = azurerm_container_app.cloud.ingress[0].fqdn
}

output "updates" {
  description = "The update server's address."
  value       = azurerm_container_app.updates.ingress[0].fqdn
}

output "resource_group" {
  description = "What everything is in."
  value       = azurerm_resource_group.this.name
}
