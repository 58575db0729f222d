"""The Terraform files against the provider's schema and our rules, without a network; and that the check can fail."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = ROOT / "packaging" / "terraform"
spec = importlib.util.spec_from_file_location("fieldwatch_terraform_check", FILES / "check.py")
assert spec is not None and spec.loader is not None
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)


def test_the_files_are_right() -> None:
    assert check.problems() == []


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(FILES, tmp_path / "terraform"))


MODULE = "modules/fieldwatch/"
# ruff: noqa: E501 - a line a case
WRONG = [
    (MODULE + "vault.tf", "purge_protection_enabled ", "purge_protection ", "there is no argument purge_protection"),
    (MODULE + "vault.tf", "purge_protection_enabled      = true", "purge_protection_enabled = false",
     "azurerm_key_vault.this: purge_protection_enabled must be True"),
    (MODULE + "vault.tf", 'sku_name                      = "standard"', "", "azurerm_key_vault.this: sku_name is missing"),
    (MODULE + "vault.tf", 'default_action = "Deny"', "", "network_acls: default_action is missing"),
    (MODULE + "vault.tf", "var.database_password", "var.database_passwort", "there is no variable database_passwort"),
    (MODULE + "vault.tf", "azurerm_subnet.endpoints.id", "azurerm_subnet.endpoint.id", "there is no resource azurerm_subnet.endpoint"),
    (MODULE + "vault.tf", "current.tenant_id", "current.tenant", "azurerm_client_config.current has no attribute tenant"),
    (MODULE + "vault.tf", "data.azurerm_client_config.current.object_id", "data.azurerm_client_config.me.object_id",
     "there is no data azurerm_client_config.me"),
    (MODULE + "storage.tf", '"TLS1_2"', '"TLS1_0"', "min_tls_version must be TLS1_2"),
    (MODULE + "storage.tf", '"Disabled"\n  allow', '"Enabled"\n  allow', "public_network_access must be Disabled"),
    (MODULE + "storage.tf", "quota              = each.value", "quota = each.value\n  size = 5", "there is no argument size"),
    (MODULE + "storage.tf", 'resource "azurerm_backup_protected_file_share"', 'resource "azurerm_backup_everything"',
     "azurerm.json does not have this type"),
    (MODULE + "database.tf", "public_network_access_enabled = false", "public_network_access_enabled = true",
     "azurerm_postgresql_flexible_server.this: public_network_access_enabled must be False"),
    (MODULE + "database.tf", '"TLSv1.2"', '"TLSv1"', "the database must require TLS 1.2"),
    (MODULE + "database.tf", "mode = high_availability.value", "modus = high_availability.value", "there is no argument modus"),
    (MODULE + "apps.tf", "allow_insecure_connections = false", "allow_insecure_connections = true", "must not allow insecure"),
    (MODULE + "apps.tf", "var.images.broker", '"broker:latest"', "azurerm_container_app.broker: its image must come from"),
    (MODULE + "apps.tf", "percentage      = 100", "percent = 100", "traffic_weight: there is no argument percent"),
    (MODULE + "network.tf", '["443", "8443", "8883"]', '["22", "443"]', "devices-and-people lets in more"),
    (MODULE + "main.tf", "local.tags", "local.tag", "there is no local tag"),
    (MODULE + "outputs.tf", 'output "updates"', 'output "update"', "module fieldwatch has no output updates"),
    (MODULE + "variables.tf", 'variable "locked"', 'variable "lock"', "there is no variable locked"),
    ("envs/prod/main.tf", "  locked              = var.locked\n", "", "module fieldwatch: locked is not given"),
    ("envs/prod/main.tf", "use_oidc            = true", "use_oidc            = false", "must differ in their values alone"),
    ("envs/prod/prod.tfvars", "log_days            = 90\n", "", "prod.tfvars: log_days is not given"),
    ("envs/prod/prod.tfvars", "log_days ", "log_day ", "prod.tfvars: there is no variable log_day"),
    ("envs/prod/prod.tfvars", "geo_backup ", "geo ", "prod.tfvars: database has backup_days, geo,"),
    ("envs/prod/prod.tfvars", "backup_days = 35", "backup_days = 7", "backups must be kept for 30 days"),
    ("envs/prod/prod.tfvars", "standby     = true", "standby     = false", "must have geo_backup and standby"),
    ("envs/prod/prod.tfvars", '"GZRS"', '"LRS"', "must survive the loss of a region"),
    ("envs/dev/dev.tfvars", "locked ", 'database_password = "x"\nlocked ', "database_password is a secret"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "problem"), WRONG, ids=[problem for *_, problem in WRONG])
def test_what_is_wrong_is_named(copy: Path, file: str, old: str, new: str, problem: str) -> None:
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert old in text, "this case is outdated"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    found = check.problems(copy)
    assert any(problem in line for line in found), found
