"""How etcd is reached, from what people say."""

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.etcd.settings import EtcdSettings, etcd_settings


def settings(endpoint="", **config):
    return etcd_settings(RendezvousParameters("etcd-v3", endpoint, "run", 1, 1, **config))


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("", [("localhost", 2379)]),
        ("e", [("e", 2379)]),
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        ("[::1],c:3", [("::1", 2379), ("c", 3)]),
    ],
)
def test_endpoints_are_read(endpoint, expected):
    """Several are separated by commas; etcd's port is the default."""
    assert tuple(Endpoint(*each) for each in expected) == settings(endpoint).endpoints


def test_certificates_mean_https(tmp_path):
    """Nobody has to say so twice; torch's names for them are known."""
    for name in ("ca", "cert", "key"):
        (tmp_path / name).touch()
    ca, cert, key = (str(tmp_path / name) for name in ("ca", "cert", "key"))
    expected = EtcdSettings((Endpoint("e", 1),), "https", ca, cert, key)

    assert [expected] * 2 == [
        settings("e:1", cacert=ca, cert=cert, key=key),
        settings("e:1", ca_cert=ca, ssl_cert=cert, ssl_cert_key=key),
    ]


def test_a_password_comes_from_a_file(tmp_path):
    """It is not shown when the settings are."""
    (tmp_path / "secret").write_text("pass word\n")
    found = settings(user="me", password_file=str(tmp_path / "secret"))

    assert ("me", "pass word", False) == (found.user, found.password, "pass word" in repr(found))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"cert": "/etc/hosts"}, "a certificate and its key go together"),
        ({"protocol": "ftp"}, "give http or https"),
        ({"protocol": "http", "cacert": "/etc/hosts"}, "certificates need https"),
        ({"cacert": "/none"}, "cacert=/none: it can't be read: No such file"),
        ({"ssl_cert": "/none"}, "--rdzv-conf ssl_cert=/none: it can't be read: No such file"),
        ({"ssl_cert_key": "/etc/hosts"}, "ssl_cert=..., ssl_cert_key=...: a certificate and its"),
        ({"password": "p"}, "give password_file="),
        ({"user": "me"}, "the two go together"),
    ],
)
def test_contradictions_are_refused(config, sentence):
    """The sentence says what would be right."""
    with pytest.raises(ValueError, match=sentence):
        settings(**config)


@pytest.mark.parametrize("endpoint", ["e:0", ",", "http://e:1"])
def test_an_endpoint_that_is_none_is_refused(endpoint):
    """An etcd has a host and a port."""
    with pytest.raises(ValueError, match="endpoint"):
        settings(endpoint)
