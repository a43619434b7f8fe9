"""etcd that knows its clients: by certificates, or by name and password."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from certificate_kit import Authority, needs_openssl
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.etcd.server import EtcdServer
from elrun.rendezvous.stores.etcd.settings import EtcdSettings
from etcd_kit import EtcdClients

pytestmark = [pytest.mark.integration, needs_openssl]

LONG_S = 30
BACKENDS = ["etcd-v3", "etcd-v2"]


@pytest.fixture(scope="module", name="authority")
def _authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "authority")


@pytest.fixture(scope="module", name="stranger")
def _stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "stranger")


@pytest.fixture(scope="module", name="guarded")
def _guarded(authority):
    """Return the endpoint of an etcd that takes only clients with a certificate."""
    files = authority.certify("server")
    settings = EtcdSettings((), "https", authority.path, **files)
    with EtcdServer(v2=True, settings=settings) as server:
        yield server.get_endpoint()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_client_with_a_certificate_is_served(backend, guarded, authority):
    """Both sides are sure of each other, in requests and in waits."""
    config = {"cacert": authority.path, **authority.certify("node")}
    clients = EtcdClients(backend, guarded, f"/{backend}/", **config)
    store = clients.connect()
    store.set({"k": b"1"})

    assert ([b"1"], None) == (store.wait(["k"], 30), store.wait(["never"], 0.1))
    clients.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_server_that_nobody_vouches_for_is_refused(backend, guarded, stranger):
    """At once: no patience makes a certificate better."""
    clients = EtcdClients(backend, guarded, cacert=stranger.path, **stranger.certify("node"))

    with pytest.raises(RendezvousConnectionError, match=r"certificate verify failed.*cacert"):
        clients.connect()
    clients.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_member_that_nobody_vouches_for_does_not_hide_another(
    backend, guarded, authority, stranger
):
    """Each member is asked, also if the first one has a certificate of another authority."""
    settings = EtcdSettings((), "https", stranger.path, **stranger.certify("server"))
    with EtcdServer(v2=True, settings=settings) as other:
        config = {"cacert": authority.path, **authority.certify("node")}
        members = f"{other.get_endpoint()},{guarded}"
        clients = EtcdClients(backend, members, f"/{backend}-two/", **config)
        store = clients.connect()
        store.set({"k": b"1"})

        assert [b"1"] == store.get(["k"])
        clients.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_client_without_a_certificate_gets_nothing(backend, guarded, authority):
    """It can't connect."""
    clients = EtcdClients(backend, guarded, cacert=authority.path)
    (client,) = clients.clients()
    store = clients.store("etcd", [client], "run")

    with pytest.raises(RendezvousConnectionError):
        store.open(join_timeout_s=0.1)
    store.close()


@pytest.fixture(name="secret_file")
def _secret_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("open sesame\n")
    return str(path)


@pytest.fixture(name="etcd_with_users")
def _etcd_with_users():
    """Return the endpoint of an etcd that knows a user over v3, and closes itself to others."""
    with EtcdServer() as server:
        clients = EtcdClients("etcd-v3", server.get_endpoint())
        (gateway,) = clients.clients()
        gateway.post("auth/user/add", {"name": "root", "password": "open sesame"})
        gateway.post("auth/role/add", {"name": "root"})
        gateway.post("auth/user/grant", {"user": "root", "role": "root"})
        gateway.post("auth/enable", {})
        gateway.close()
        yield server.get_endpoint()


@pytest.fixture(name="v2_with_users")
def _v2_with_users():
    """Return the same over v2."""
    with EtcdServer(v2=True) as server:
        client = server.get_client()
        root = {"user": "root", "password": "open sesame"}
        client.api_execute_json("/v2/auth/users/root", "PUT", root)
        client.api_execute_json("/v2/auth/enable", "PUT", {})
        client.username, client.password = "root", "open sesame"
        everything = {"kv": {"read": ["/*"], "write": ["/*"]}}
        guest = {"role": "guest", "revoke": everything}
        client.api_execute_json("/v2/auth/roles/guest", "PUT", guest)
        yield server.get_endpoint()


@pytest.fixture(params=BACKENDS, name="with_users")
def _with_users(request):
    fixture = {"etcd-v3": "etcd_with_users", "etcd-v2": "v2_with_users"}[request.param]
    return request.param, request.getfixturevalue(fixture)


def test_a_user_with_the_password_is_served(with_users, secret_file):
    """In requests and in waits."""
    clients = EtcdClients(*with_users, user="root", password_file=secret_file)
    store = clients.connect()
    store.set({"k": b"1"})

    assert ([b"1"], None) == (store.wait(["k"], 30), store.wait(["never"], 0.1))
    clients.close()


@pytest.mark.parametrize("known", [True, False])
def test_nobody_else_is_served(with_users, tmp_path, known):
    """Neither with a wrong password nor without any."""
    (tmp_path / "wrong").write_text("?")
    config = {"user": "root", "password_file": str(tmp_path / "wrong")} if known else {}
    clients = EtcdClients(*with_users, **config)

    with pytest.raises(RendezvousConnectionError, match="refuses"):
        clients.connect().set({"k": b"1"})
    clients.close()


def test_a_token_that_has_expired_is_renewed(etcd_with_users, secret_file):
    """A job lasts longer than etcd's memory of who logged in."""
    clients = EtcdClients("etcd-v3", etcd_with_users, user="root", password_file=secret_file)
    store = clients.connect()
    (gateway,) = store._clients
    gateway._token = "stale"
    store.set({"k": b"1"})
    gateway._token = "stale"

    assert [b"1"] == store.wait(["k"], LONG_S)
    with ThreadPoolExecutor(1) as pool:
        gateway._token = "stale"
        waiting = pool.submit(store.wait, ["late"], LONG_S)
        store.wait(["never"], 0.3)
        gateway._token = "stale"
        store.set({"late": b"1"})

        assert ([b"1"], False) == (waiting.result(LONG_S), gateway._token == "stale")
    clients.close()
