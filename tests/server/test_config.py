"""The server's settings: where they come from, which wins, and that a misspelt one stops the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from epista.contract.errors import SettingsError
from epista.server.config import Config, read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "epista.toml"
    path.write_text('lab = "from the file"\nport = 1\nmetrics_public = true\n')
    return path


def test_without_anything_the_defaults_hold() -> None:
    assert read(file=None, environ={}) == Config()
    assert (Config().host, Config().port, Config().metrics_public) == ("127.0.0.1", 8717, False)


def test_a_variable_wins_over_the_file_and_an_argument_over_both(file: Path) -> None:
    variables = {"EPISTA_SERVER_PORT": "2", "EPISTA_SERVER_LOG_LEVEL": "debug"}

    assert read(file=file, environ={}).port == 1
    assert read(file=file, environ=variables).port == 2
    config = read(file=file, environ=variables, port=3, host=None)

    assert (config.port, config.log_level, config.lab) == (3, "debug", "from the file")
    assert (config.metrics_public, config.host) == (True, "127.0.0.1")


def test_variables_are_text_and_become_numbers_and_booleans() -> None:
    config = read(
        file=None,
        environ={
            "EPISTA_SERVER_METRICS_PUBLIC": "true",
            "EPISTA_SERVER_BODY_TIMEOUT_SECONDS": "1.5",
            "EPISTA_SERVER_REQUESTS_PER_MINUTE": "0",
            "EPISTA_TOKEN": "of the client",
            "PATH": "/bin",
        },
    )

    assert (config.metrics_public, config.body_timeout_seconds, config.requests_per_minute) == (True, 1.5, 0)


def test_an_unknown_setting_in_the_file_stops_the_start_and_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "epista.toml"
    path.write_text("max_uplod_bytes = 1\n")

    with pytest.raises(SettingsError) as caught:
        read(file=path, environ={})

    assert (
        caught.value.message
        == f"the settings file {str(path)!r} has the unknown setting 'max_uplod_bytes'; nearest: 'max_upload_bytes'"
    )
    assert caught.value.hint == "see docs/reference/settings.md"


def test_an_unknown_variable_stops_the_start_and_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="'metrics_pubic'; nearest: 'metrics_public'"):
        read(file=None, environ={"EPISTA_SERVER_METRICS_PUBIC": "1"})
    with pytest.raises(SettingsError) as caught:
        read(file=None, environ={"EPISTA_SERVER_ZZZZ": "1"})

    assert caught.value.message == "the environment (EPISTA_SERVER_...) has the unknown setting 'zzzz'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("port = ", "is not TOML", id="toml"),
        pytest.param('port = "many"', "a setting does not fit", id="number"),
        pytest.param("port = 70000", "port is 0 to 65535", id="port"),
        pytest.param("workers = 0", "workers", id="workers"),
        pytest.param('log_level = "loud"', "log_level is 'loud'", id="level"),
        pytest.param('backup_root = "relative"', "no absolute path", id="relative"),
        pytest.param("[server]\nport = 1", "unknown setting 'server'", id="table"),
        pytest.param('metrics_public = "perhaps"', "a setting does not fit", id="boolean"),
        pytest.param("max_json_bytes = -1", "max_json_bytes", id="negative limit"),
        pytest.param("body_timeout_seconds = nan", "body_timeout_seconds", id="nan"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_start(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "epista.toml"
    path.write_text(text)

    with pytest.raises(SettingsError, match=said):
        read(file=path, environ={})


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml' cannot be read: No such file"):
        read(file=tmp_path / "nowhere.toml", environ={})

    (tmp_path / "latin.toml").write_bytes(b'lab = "\xe9"')
    with pytest.raises(SettingsError, match="is not TOML"):
        read(file=tmp_path / "latin.toml", environ={})


class TestStore:
    def read(self, **settings: str) -> Config:
        return read(file=None, environ={f"EPISTA_SERVER_{name.upper()}": value for name, value in settings.items()})

    def test_the_secret_is_read_from_its_file_and_shown_nowhere(self, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text("very-secret\n")

        config = self.read(blobs="s3://lab/a/b", s3_access_key="key", s3_secret_key_file=str(file))

        assert config.s3_secret_key == "very-secret"
        assert "very-secret" not in f"{config!r} {config}"
        assert "s3://lab/a/b" in repr(config)

    def test_the_secret_of_a_variable_is_shown_nowhere(self) -> None:
        config = self.read(blobs="s3://lab", s3_access_key="key", s3_secret_key="very-secret")

        assert config.s3_secret_key == "very-secret"
        assert "very-secret" not in repr(config)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"blobs": "lab"}, "blobs is 'lab'"),
            ({"blobs": "s3://"}, "no address of a store"),
            ({"blobs": "s3://key:secret@lab/a"}, "no address of a store"),
            ({"blobs": "ftp://lab/a"}, "no address of a store"),
            ({"s3_endpoint": "s3.lab.example"}, "no address such as"),
            ({"s3_endpoint": "https://me:secret@s3.lab.example"}, "no address such as"),
            ({"s3_checksum": "md5"}, "one of crc64nvme"),
            ({"s3_access_key": "key"}, "only one is set"),
            ({"s3_secret_key": "very-secret"}, "only one is set"),
            ({"s3_secret_key": "very-secret", "s3_secret_key_file": "/dev/null"}, "both set"),
            ({"s3_secret_key_file": "/nowhere/at all"}, "cannot be read"),
        ],
    )
    def test_what_makes_no_sense_stops_the_start(self, settings: dict[str, str], said: str) -> None:
        with pytest.raises(SettingsError, match=said) as caught:
            self.read(**settings)

        assert "very-secret" not in str(caught.value)


class TestSpark:
    def read(self, **settings: str | dict[str, str]) -> Config:
        given = {"spark_url": "sc://spark.lab.example:15002", "spark_scratch": "/mnt/scratch"} | settings
        return read(file=None, environ={}, **given)

    def test_the_token_comes_from_a_file_and_is_never_shown(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("very-secret\n")

        config = self.read(spark_token_file=str(file), query_engine="spark")

        assert config.spark_token == "very-secret"
        assert "very-secret" not in f"{config!r} {config}"

    def test_the_files_of_a_variable_are_json(self) -> None:
        variables = {
            "EPISTA_SERVER_SPARK_URL": "sc://spark.lab.example",
            "EPISTA_SERVER_SPARK_SCRATCH": "/mnt/scratch",
            "EPISTA_SERVER_SPARK_FILES": '{"/srv/lab/": "file:///mnt/lab/"}',
        }

        assert read(file=None, environ=variables).spark_files == {"/srv/lab/": "file:///mnt/lab/"}
        with pytest.raises(SettingsError, match="SPARK_FILES is not JSON"):
            read(file=None, environ=variables | {"EPISTA_SERVER_SPARK_FILES": "/srv/lab/"})

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"spark_url": "http://spark.lab.example"}, "no address of a Spark Connect server"),
            ({"spark_url": "sc://spark.lab.example:15002/;token=very-secret"}, "no address of a Spark Connect server"),
            ({"spark_scratch": "scratch"}, "an absolute path"),
            ({"spark_token": "very-secret", "spark_token_file": "/dev/null"}, "both set"),
            ({"spark_token_file": "/nowhere/at all"}, "cannot be read"),
            ({"spark_url": "", "query_engine": "spark"}, "no spark_url says where"),
            ({"query_engine": "sparc"}, "one of duckdb, spark"),
        ],
    )
    def test_what_makes_no_sense_stops_the_start(self, settings: dict[str, str], said: str) -> None:
        with pytest.raises(SettingsError, match=said) as caught:
            self.read(**settings)

        assert "very-secret" not in str(caught.value)
