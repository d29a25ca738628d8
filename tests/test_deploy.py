"""The hub's configuration files say the same, and a hub without its data folder says so before anybody logs in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from traitlets.config import PyFileConfigLoader

DEPLOY = Path(__file__).resolve().parent.parent / "deploy" / "jupyterhub"
CONFIG = DEPLOY / "jupyterhub_config.py"


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    return PyFileConfigLoader(CONFIG.name, path=str(DEPLOY)).load_config()


@pytest.fixture
def values():
    return yaml.safe_load((DEPLOY / "values.yaml").read_text(encoding="utf-8"))["singleuser"]


def test_one_machine_and_a_cluster_give_a_student_the_same(config, values):
    spawner = config.Spawner
    assert (spawner.cpu_guarantee, spawner.cpu_limit) == (values["cpu"]["guarantee"], values["cpu"]["limit"])
    assert (spawner.mem_guarantee, spawner.mem_limit) == (
        values["memory"]["guarantee"],
        values["memory"]["limit"],
    )
    assert spawner.default_url == values["defaultUrl"]
    assert spawner.start_timeout == values["startTimeout"]
    assert list(spawner.environment) == list(values["extraEnv"]) == ["COURSE_DATA_DIR"]


def test_the_shared_data_are_mounted_read_only_where_the_variable_points(values):
    mount, volume = values["storage"]["extraVolumeMounts"][0], values["storage"]["extraVolumes"][0]
    assert mount["name"] == volume["name"]
    assert mount["mountPath"] == values["extraEnv"]["COURSE_DATA_DIR"]
    assert mount["readOnly"] is True
    assert volume["persistentVolumeClaim"]["readOnly"] is True


def test_nothing_in_the_configuration_lets_anybody_in(config):
    assert "Authenticator" not in config
    assert not {"authenticator_class", "spawner_class", "admin_access"} & set(config.JupyterHub)


@pytest.mark.parametrize("folder", ["", "data", "/no/such/folder"])
def test_a_folder_that_is_none_is_named_with_the_mend(folder, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_DIR", folder)
    with pytest.raises(SystemExit, match=rf"COURSE_DATA_DIR is '{folder}'.* docs/hub-guide.md says how"):
        PyFileConfigLoader(CONFIG.name, path=str(DEPLOY)).load_config()


def test_a_hub_without_its_data_folder_does_not_start(tmp_path):
    command = [sys.executable, "-m", "jupyterhub", "--config", str(CONFIG), "--show-config"]
    environment = {**os.environ, "COURSE_DATA_DIR": str(tmp_path / "data")}
    hub = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert hub.returncode != 0
    assert "COURSE_DATA_DIR is" in hub.stderr
