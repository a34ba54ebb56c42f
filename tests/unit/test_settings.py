import pytest

from voting.question import Question
from voting.settings import InvalidSetting, Settings


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_env({})
    assert settings.question == Question("", {"a": "Cats", "b": "Dogs"})
    assert settings.max_body_bytes == 16384
    assert (settings.batch_votes, settings.batch_bytes) == (20000, 8 * 1024 * 1024)
    assert (settings.broadcast_interval_ms, settings.broadcast_messages_per_s) == (250, 4000)
    assert settings.accept_legacy_ids is False
    assert settings.accept_old_cookies is True
    assert settings.allowed_origins == frozenset()


@pytest.mark.parametrize(
    ("name", "value", "attribute"),
    [
        ("REDIS_URL", "", "redis_url"),
        ("REDIS_URL", "http://secret@cache", "redis_url"),
        ("REDIS_URL", "redis://cache/0?decode_responses=true", "redis_url"),
        ("REDIS_URL", "redis://cache?socket_timeout=0", "redis_url"),
        ("DATABASE_URL", "mysql://user:secret@db", "database_url"),
        ("DATABASE_HOST", " ", "database_url"),
        ("DATABASE_PORT", "x", "database_url"),
        ("COOKIE_KEYS", "", "cookie_keys"),
        ("COOKIE_KEYS", "short,secret", "cookie_keys"),
        ("ACCEPT_LEGACY_IDS", "maybe", "accept_legacy_ids"),
        ("ACCEPT_OLD_COOKIES", "maybe", "accept_old_cookies"),
        ("CONFIRM_BY_REPLICA", "maybe", "confirm_by_replica"),
        ("ALLOWED_ORIGINS", "vote.example.org", "allowed_origins"),
        ("ALLOWED_ORIGINS", "https://vote.example.org/secret", "allowed_origins"),
        ("HTTP_URL", "https://vote.example.org/secret", "http_url"),
        ("MAX_BODY_BYTES", "many", "max_body_bytes"),
        ("BATCH_VOTES", "0", "batch_votes"),
        ("BROADCAST_MESSAGES_PER_S", "-1", "broadcast_messages_per_s"),
        ("BROADCAST_INTERVAL_MS", "49", "broadcast_interval_ms"),
        ("BROADCAST_INTERVAL_MS", "60001", "broadcast_interval_ms"),
        ("BROADCAST_INTERVAL_MS", "0.25", "broadcast_interval_ms"),
    ],
)
def test_a_malformed_setting_is_named_and_not_shown_where_it_is_secret(name: str, value: str, attribute: str) -> None:
    env = {"DATABASE_HOST": "db", name: value}
    with pytest.raises(InvalidSetting, match=name) as caught:
        getattr(Settings.from_env(env), attribute)
    assert "secret" not in str(caught.value)


def test_a_host_makes_a_database_url_without_credentials() -> None:
    settings = Settings.from_env({"DATABASE_HOST": "db.example.org", "DATABASE_PORT": "6432", "DATABASE_NAME": "my db"})
    assert settings.database_url == "postgresql://db.example.org:6432/my%20db"


def test_a_blank_label_is_no_label() -> None:
    env = {"OPTION_A": " ", "OPTION_B": " Tea ", "OPTIONS": "  "}
    assert Settings.from_env(env).question.labels == {"a": "Cats", "b": "Tea"}


def test_options_take_the_place_of_the_two_and_are_trimmed() -> None:
    env = {"QUESTION": " Lunch? ", "OPTIONS": " Thai |Pizza|\tSalad", "OPTION_A": "Cats"}
    assert Settings.from_env(env).question == Question("Lunch?", {"a": "Thai", "b": "Pizza", "c": "Salad"})


def test_twenty_options_are_a_to_t() -> None:
    labels = [f"{number} " + "🐈" * 97 for number in range(10, 30)]
    question = Settings.from_env({"OPTIONS": "|".join(labels), "QUESTION": "é" * 200}).question
    assert "".join(question.labels) == "abcdefghijklmnopqrst"
    assert list(question.labels.values()) == labels


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("Tea", "OPTIONS has 1 label: it takes 2 to 20, with | between them"),
        ("|".join(map(str, range(21))), "OPTIONS has 21 labels: it takes 2 to 20, with | between them"),
        ("Tea||Milk", "OPTIONS number 2 is empty"),
        ("Tea|Milk| ", "OPTIONS number 3 is empty"),
        ("|", "OPTIONS number 1 is empty"),
        ("Tea|Milk| Tea", "OPTIONS number 3 is the same as number 1: Tea"),
        ("Tea|" + "m" * 101, "OPTIONS number 2 has 101 characters: a label has at most 100"),
    ],
)
def test_what_is_wrong_with_the_options_is_said(options: str, words: str) -> None:
    with pytest.raises(InvalidSetting) as told:
        _ = Settings.from_env({"OPTIONS": options}).question
    assert str(told.value) == words


def test_two_equal_labels_of_before_still_work() -> None:
    assert Settings.from_env({"OPTION_A": "x" * 300, "OPTION_B": "x" * 300}).question.is_pair


def test_a_question_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="QUESTION has 201 characters: it takes at most 200"):
        _ = Settings.from_env({"QUESTION": "?" * 201}).question


@pytest.mark.parametrize(
    "text", ["https://Vote.example.org/", "HTTPS://vote.example.org:443", "https://vote.example.org:"]
)
def test_origins_have_one_spelling(text: str) -> None:
    settings = Settings.from_env({"ALLOWED_ORIGINS": f"{text}, http://localhost:8080", "HTTP_URL": text})
    assert settings.allowed_origins == {"https://vote.example.org", "http://localhost:8080"}
    assert settings.http_url == "https://vote.example.org"


@pytest.mark.parametrize("text", ["50", " 250 ", "60000"])
def test_the_interval_is_what_is_set(text: str) -> None:
    assert Settings.from_env({"BROADCAST_INTERVAL_MS": text}).broadcast_interval_ms == int(text)


def test_an_interval_out_of_bounds_is_refused_with_both_bounds() -> None:
    with pytest.raises(InvalidSetting) as told:
        _ = Settings.from_env({"BROADCAST_INTERVAL_MS": "1"}).broadcast_interval_ms
    assert str(told.value) == "BROADCAST_INTERVAL_MS is '1': it takes a whole number from 50 to 60000"


@pytest.mark.parametrize("text", ["false", " FALSE ", "0", "no", "off"])
def test_what_is_on_by_default_can_be_switched_off(text: str) -> None:
    assert Settings.from_env({"ACCEPT_OLD_COOKIES": text}).accept_old_cookies is False
    assert Settings.from_env({"ACCEPT_OLD_COOKIES": ""}).accept_old_cookies is True
