"""Settings: where each comes from, and that no token travels to a server it was not given for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from epista.client import credentials, settings
from epista.client.credentials import Saved
from epista.contract.errors import SettingsError

A, B = "https://a.example", "https://b.example"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials.json"


@pytest.fixture(autouse=True)
def no_loaded_env() -> Iterator[None]:
    yield
    settings._loaded.clear()
    settings._loaded_from.clear()


def environ(file: Path, **variables: str) -> dict[str, str]:
    return {"EPISTA_CREDENTIALS": str(file), **variables}


def env_file(folder: Path, text: str) -> str:
    path = folder / "lab.env"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def test_an_argument_outranks_a_variable(file: Path) -> None:
    given = environ(
        file, EPISTA_API_URL=A, EPISTA_TOKEN="variable", EPISTA_WORKSPACE_ID="variable", EPISTA_EXPERIMENT_ID="variable"
    )

    found = settings.read(given, token="argument", workspace="argument", experiment="argument", notebook="argument")

    assert (found.location, found.token, found.workspace) == (A, "argument", "argument")
    assert (found.experiment, found.notebook) == ("argument", "argument")


def test_the_newer_name_outranks_the_older_one(file: Path) -> None:
    found = settings.read(environ(file, BIOLAKE_API_URL=A, BIOLAKE_TOKEN="old", EPISTA_TOKEN="new", BIOLAKE_NOTEBOOK_ID="nb"))

    assert (found.location, found.token, found.notebook) == (A, "new", "nb")


def test_pat_is_another_name_for_the_token(file: Path) -> None:
    assert settings.read(environ(file, EPISTA_API_URL=A, EPISTA_PAT="pat")).token == "pat"


def test_an_empty_variable_is_none(file: Path) -> None:
    assert settings.read(environ(file, EPISTA_API_URL="", BIOLAKE_API_URL=A, EPISTA_TOKEN="t")).location == A


def test_an_env_file_ranks_below_variables_and_above_the_credentials(file: Path, tmp_path: Path) -> None:
    credentials.remember(file, B, Saved(token="saved", workspace="saved"))
    named = env_file(tmp_path, f"EPISTA_API_URL={A}\nEPISTA_TOKEN=file\nEPISTA_WORKSPACE_ID=file\n")

    found = settings.read(environ(file, EPISTA_ENV_FILE=named, EPISTA_WORKSPACE_ID="variable"))

    assert (found.location, found.token, found.workspace) == (A, "file", "variable")


def test_load_env_names_the_file_in_code_and_leaves_the_environment_alone(file: Path, tmp_path: Path) -> None:
    before = dict(os.environ)
    settings.load_env(
        env_file(tmp_path, f"export BIOLAKE_API_URL='{A}'\nEPISTA_TOKEN=\"$HOME\"  \nAWS_SECRET_ACCESS_KEY=no\n# x\n")
    )

    found = settings.read(environ(file))

    assert (found.location, found.token) == (A, "$HOME")
    assert dict(os.environ) == before


def test_a_comment_after_a_value_is_no_part_of_it(file: Path, tmp_path: Path) -> None:
    named = env_file(tmp_path, f"EPISTA_API_URL={A} # the lab\nEPISTA_TOKEN=t#1\n")

    found = settings.read(environ(file, EPISTA_ENV_FILE=named))

    assert (found.location, found.token) == (A, "t#1")


def test_an_env_file_is_never_found_by_itself(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file(tmp_path, f"EPISTA_API_URL={A}\n")
    (tmp_path / "lab.env").rename(tmp_path / ".env")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SettingsError, match="no server"):
        settings.read(environ(file))


def test_a_missing_env_file_is_an_error(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no-such"):
        settings.read(environ(file, EPISTA_ENV_FILE=str(tmp_path / "no-such.env")))


def test_an_env_file_that_others_may_read_warns(tmp_path: Path) -> None:
    named = env_file(tmp_path, "EPISTA_TOKEN=secret\n")
    Path(named).chmod(0o644)

    with pytest.warns(UserWarning, match="chmod 600") as caught:
        settings.load_env(named)

    assert "secret" not in str(caught[0].message)


def test_a_missing_server_lists_every_place_looked_in(file: Path, tmp_path: Path) -> None:
    named = env_file(tmp_path, "")

    with pytest.raises(SettingsError) as caught:
        settings.read(environ(file, EPISTA_ENV_FILE=named))

    for place in ("EPISTA_API_URL", "BIOLAKE_API_URL", named, str(file)):
        assert place in caught.value.message


def test_a_missing_token_lists_every_place_looked_in(file: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.read(environ(file), location=A)

    for place in (A, "EPISTA_TOKEN", "BIOLAKE_TOKEN", str(file)):
        assert place in caught.value.message


def test_the_token_of_a_variable_stays_with_the_server_of_the_variables(file: Path) -> None:
    given = environ(
        file, EPISTA_API_URL=A, EPISTA_TOKEN="token-of-a", EPISTA_WORKSPACE_ID="of-a", EPISTA_TOKEN_REFRESH_URL=A + "/hub"
    )

    with pytest.raises(SettingsError, match="belongs to another server") as caught:
        settings.read(given, location=B)
    found = settings.read(given, location=B, token="token-of-b")

    assert "token-of-a" not in str(caught.value)
    assert (found.token, found.workspace, found.refresh_url) == ("token-of-b", None, None)


def test_the_token_of_a_variable_serves_its_server_however_it_is_spelt(file: Path) -> None:
    given = environ(file, EPISTA_API_URL="https://A.example:443/", EPISTA_TOKEN="token-of-a")

    assert settings.read(given, location="HTTPS://a.EXAMPLE").token == "token-of-a"


def test_the_token_of_one_source_stays_with_the_server_of_that_source(file: Path, tmp_path: Path) -> None:
    named = env_file(tmp_path, f"EPISTA_API_URL={B}\nEPISTA_TOKEN=token-of-b\n")

    with pytest.raises(SettingsError, match="no token"):
        settings.read(environ(file, EPISTA_ENV_FILE=named, EPISTA_API_URL=A))
    with pytest.raises(SettingsError, match="no token"):
        settings.read(environ(file, EPISTA_API_URL=A, BIOLAKE_API_URL=B, BIOLAKE_TOKEN="token-of-b"))


def test_a_token_without_a_server_of_its_own_goes_with_the_location(file: Path) -> None:
    assert settings.read(environ(file, EPISTA_TOKEN="t"), location=A).token == "t"


def test_a_saved_token_is_used_for_its_server_only(file: Path) -> None:
    credentials.remember(file, A, Saved(token="saved-for-a"))

    assert settings.read(environ(file)).token == "saved-for-a"
    assert settings.read(environ(file), location=A + "/").token == "saved-for-a"
    for other in (B, "http://a.example", A + ":8443", A + "/other"):
        with pytest.raises(SettingsError, match="no token"):
            settings.read(environ(file), location=other)


def test_a_saved_token_is_never_renewed_elsewhere(file: Path) -> None:
    credentials.remember(file, A, Saved(token="saved-for-a"))

    found = settings.read(environ(file, EPISTA_TOKEN_REFRESH_URL="https://hub.example/renew"))

    assert (found.token, found.refresh_url) == ("saved-for-a", None)


def test_the_address_of_renewals_goes_with_a_token_of_the_variables(file: Path) -> None:
    given = environ(file, EPISTA_API_URL=A, EPISTA_TOKEN="t", EPISTA_TOKEN_REFRESH_URL="https://hub.example/renew")

    assert settings.read(given).refresh_url == "https://hub.example/renew"


def test_what_is_no_address_is_a_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    found = settings.read(environ(file, EPISTA_TOKEN="t"), location="./lab")

    assert (found.location, found.is_folder, found.token) == (str(tmp_path.resolve() / "lab"), True, None)


def test_a_lab_in_a_folder_takes_no_token(file: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="takes no token"):
        settings.read(environ(file), location=tmp_path, token="secret")


@pytest.mark.parametrize(
    "location",
    ["", "s3://bucket", "https://", "https://user:hidden@a.example", "https://a.example/sign-in#hidden", "https://a.example:x"],
)
def test_a_location_that_makes_no_sense_is_refused_without_its_secrets(file: Path, location: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.read(environ(file), location=location, token="t")

    assert "hidden" not in str(caught.value)


def test_a_token_with_a_line_end_is_refused_without_repeating_it(file: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.read(environ(file), location=A, token="secret\n")

    assert "secret" not in str(caught.value)


def test_an_experiment_is_one_segment(file: Path) -> None:
    with pytest.raises(SettingsError, match="EXP/12"):
        settings.read(environ(file), location=A, token="t", experiment="EXP/12")


def test_settings_show_no_token(file: Path) -> None:
    found = settings.read(environ(file, EPISTA_API_URL=A, EPISTA_TOKEN="secret"))

    assert "secret" not in repr(found)
    assert "secret" not in repr(settings._sources(environ(file, EPISTA_TOKEN="secret")))


@pytest.mark.parametrize(("text", "expected"), [("0", False), ("1", True), (None, None)])
def test_progress_is_0_or_1(file: Path, text: str | None, expected: bool | None) -> None:
    given = environ(file, EPISTA_API_URL=A, EPISTA_TOKEN="t", **({} if text is None else {"EPISTA_PROGRESS": text}))

    assert settings.read(given).show_progress is expected
    assert settings.read(given, progress=True).show_progress is True
    with pytest.raises(SettingsError, match="PROGRESS"):
        settings.read({**given, "EPISTA_PROGRESS": "maybe"})


def test_credentials_are_private_and_keyed_by_server(file: Path) -> None:
    path = file.parent / "new" / file.name

    credentials.remember(path, A, Saved(token="ta", user="ada"))
    credentials.remember(path, B, Saved(token="tb"))

    known = credentials.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert known.default == B
    assert {url: saved.token for url, saved in known.servers.items()} == {A: "ta", B: "tb"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert "ta" not in repr(known.servers[A])


def test_forgetting_a_server_leaves_the_others(file: Path) -> None:
    credentials.remember(file, A, Saved(token="ta"))
    credentials.remember(file, B, Saved(token="tb"))

    assert credentials.forget(file, B)
    assert not credentials.forget(file, B)
    assert credentials.load(file).default == A
    assert set(credentials.load(file).servers) == {A}


def test_a_spoilt_credentials_file_is_named_without_its_content(file: Path) -> None:
    file.write_text('{"servers": {"x": {"token": 5, "secret": "hidden"', encoding="utf-8")
    file.chmod(0o600)

    with pytest.raises(SettingsError, match=r"credentials\.json") as caught:
        credentials.load(file)

    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_failed_write_leaves_the_old_credentials(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.remember(file, A, Saved(token="ta"))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingsError, match="No space left"):
        credentials.remember(file, B, Saved(token="tb"))

    assert set(credentials.load(file).servers) == {A}
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_a_credentials_file_that_others_may_read_warns(file: Path) -> None:
    credentials.remember(file, A, Saved(token="ta"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        credentials.load(file)
    file.chmod(0o644)

    with pytest.warns(UserWarning, match="chmod 600"):
        credentials.load(file)
