"""The launch-time settings: one typed schema for the build machine, the guest and the reference.

Every field carries its type, its default, an example and its description: ``docs/operators/settings.md`` is made
of them. A field is judged alone here; what holds between fields is in :mod:`hubsmith.settings.rules`.

Sizes are kept as bytes and durations as seconds (integers).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hubsmith.settings import checks
from hubsmith.settings.scalars import Bool, Duration, Int, Label, Number, Secret, Size, Str

UserName = Annotated[Str, AfterValidator(checks.user_name), Label("user name")]
Domain = Annotated[Str, AfterValidator(checks.domain), Label("domain name")]
Email = Annotated[Str, AfterValidator(checks.email), Label("e-mail address")]
HttpsUrl = Annotated[Str, AfterValidator(checks.https_url), Label("https URL")]
Certificates = Annotated[Str, AfterValidator(checks.certificates), Label("PEM text")]
PrivateKey = Annotated[Str, AfterValidator(checks.private_key), Label("PEM text"), Secret()]
PasswordHash = Annotated[Str, AfterValidator(checks.password_hash), Label("password hash"), Secret()]
PrivateNetwork = Annotated[Str, AfterValidator(checks.private_network), Label("IPv4 network")]
SourceNetwork = Annotated[Str, AfterValidator(checks.source_network), Label("IPv4 network")]
Address = Annotated[Str, AfterValidator(checks.address), Label("IPv4 address")]
ClusterSecret = Annotated[Str, AfterValidator(checks.cluster_secret), Label("random text"), Secret()]
ClusterKey = Annotated[Str, AfterValidator(checks.cluster_key), Label("PEM text"), Secret()]
Pin = Annotated[Str, AfterValidator(checks.pin), Label("pin")]
ImageReference = Annotated[Str, AfterValidator(checks.image_reference), Label("container image")]
Volume = Annotated[Str, AfterValidator(checks.volume), Label("volume")]
SshKey = Annotated[Str, AfterValidator(checks.ssh_key), Label("SSH public key")]


class Table(BaseModel):
    """A table of the settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Hub(Table):
    """The hub as a whole."""

    domain: Domain | None = Field(
        default=None,
        description="The name under which people reach the hub. Without it the hub answers on any name and address.",
        examples=["hub.example.org"],
    )
    admins: tuple[UserName, ...] = Field(
        default=(),
        description="Users who may use JupyterHub's admin page and write to the shared folder. Each must be in "
        "`users`. An admin of the hub is not root on the machine.",
        examples=[["alice"]],
    )
    announcement: Annotated[Str, AfterValidator(checks.one_line)] = Field(
        default="",
        max_length=500,
        description="One line of plain text, shown on the hub's pages.",
        examples=["Maintenance on Friday from 18:00 to 19:00 UTC"],
    )
    concurrent_spawn_limit: Int = Field(
        default=20,
        ge=1,
        le=1000,
        description="How many servers may be starting at the same time; further ones are asked to try again.",
        examples=[50],
    )
    upload_limit: Size = Field(
        default=1024**3,
        ge=1024**2,
        description="The largest file that can be uploaded in one request.",
        examples=["200M"],
    )


class Tls(Table):
    """The certificate of the hub."""

    mode: Literal["self-signed", "letsencrypt", "provided"] = Field(
        default="self-signed",
        description="`self-signed`: made on the machine, browsers warn. `letsencrypt`: issued and renewed by an ACME "
        "authority. `provided`: the one in `certificate` and `key`.",
        examples=["letsencrypt"],
    )
    email: Email | None = Field(
        default=None,
        description="Where the authority writes about the certificate. Needed for `letsencrypt`.",
        examples=["admin@example.org"],
    )
    staging: Bool = Field(
        default=False,
        description="Use the staging service of Let's Encrypt: for trials, hardly limited, not trusted by browsers.",
        examples=[True],
    )
    directory_url: HttpsUrl | None = Field(
        default=None,
        description="The directory of another ACME authority, instead of that of Let's Encrypt.",
        examples=["https://ca.example.org/acme/directory"],
    )
    ca_bundle: Certificates | None = Field(
        default=None,
        description="The PEM certificates that sign the ACME authority's own web server, when it is a private one.",
        examples=["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"],
    )
    certificate: Certificates | None = Field(
        default=None,
        description="For `provided`: the PEM certificate of the hub, followed by its intermediate ones.",
        examples=["-----BEGIN CERTIFICATE-----\n…\n-----END CERTIFICATE-----\n"],
    )
    key: PrivateKey | None = Field(
        default=None,
        repr=False,
        description="For `provided`: the PEM private key of the certificate, without a pass phrase.",
        examples=["-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n"],
    )


class Auth(Table):
    """How people prove who they are."""

    method: Literal["local"] = Field(
        default="local",
        description="`local`: the Unix accounts that are declared in `users`, and no others.",
        examples=["local"],
    )


class User(Table):
    """One person. Somebody who is taken away again is locked out; the home stays."""

    name: UserName = Field(
        description="The Unix name, and the name on the hub: a lower-case letter, then lower-case letters, digits, `-` "
        "and `_`; at most 32 characters.",
        examples=["alice"],
    )
    password_hash: PasswordHash | None = Field(
        default=None,
        repr=False,
        description="For logging in to the hub. A yescrypt (`$y$`), bcrypt (`$2b$`) or SHA-512 (`$6$`) hash; "
        "`hubsmith settings hash-password` makes one. Without it the user can only come by SSH.",
        examples=["$2b$12$…"],
    )
    ssh_keys: tuple[SshKey, ...] = Field(
        default=(),
        description="Public keys that may log in by SSH. SSH takes no passwords.",
        examples=[["ssh-ed25519 AAAA… alice@laptop"]],
    )
    quota: Size | None = Field(
        default=None,
        ge=1024**2,
        description="How much this user may store, instead of `homes.quota`.",
        examples=["10G"],
    )


class Profile(Table):
    """One of the kinds of servers that people choose from; the first is the default."""

    name: Annotated[Str, AfterValidator(checks.one_line)] = Field(
        min_length=1, max_length=80, description="What people read.", examples=["Large"]
    )
    memory: Size | None = Field(
        default=None, ge=128 * 1024**2, description="Instead of `spawner.memory`.", examples=["8G"]
    )
    cpu: Number | None = Field(default=None, ge=0.1, le=1024, description="Instead of `spawner.cpu`.", examples=[4.0])
    image: ImageReference | None = Field(
        default=None, description="Instead of `spawner.image`.", examples=["registry.example.org/r-notebook:4.5"]
    )


class Spawner(Table):
    """Where and how notebook servers run."""

    kind: Literal["local", "swarm"] = Field(
        default="local",
        description="`local`: processes of the user on this machine, each in a systemd unit of its own. `swarm`: "
        "containers on the workers of `cluster`, spread by Docker Swarm.",
        examples=["swarm"],
    )
    memory: Size = Field(
        default=1024**3,
        ge=128 * 1024**2,
        description="The most memory that one user's server can use.",
        examples=["2G"],
    )
    cpu: Number = Field(
        default=1.0,
        ge=0.1,
        le=1024,
        description="The most processor time that one user's server can use, in cores.",
        examples=[2.0],
    )
    start_timeout: Duration = Field(
        default=120,
        ge=10,
        le=3600,
        description="How long a server may take to start before the hub gives up.",
        examples=["3m"],
    )
    image: ImageReference | None = Field(
        default=None,
        description="For `swarm`: the container image of the servers, pulled by each worker before it is used. Without "
        "it the one that the workers bring.",
        examples=["registry.example.org/notebook:2026-09-01"],
    )
    on_master: Bool = Field(
        default=False,
        description="For `swarm`: let servers run on the master, too. It needs an `image`: only workers bring one.",
        examples=[True],
    )
    profiles: tuple[Profile, ...] = Field(
        default=(),
        description="For `swarm`: kinds of servers to choose from. Without any there is one kind and no choice.",
        examples=[[{"name": "Small"}, {"name": "Large", "memory": "8G"}]],
    )


class Cluster(Table):
    """The private network of several machines, and how they know each other."""

    network: PrivateNetwork | None = Field(
        default=None,
        description="The network that all machines of the deployment are on, and no others: whoever is on it reaches "
        "the homes. Ports that they need among themselves are open to it and to nobody else.",
        examples=["10.77.0.0/24"],
    )
    manager: Address | None = Field(
        default=None,
        description="For workers: the address of the master in `network`. It makes these the settings of a worker.",
        examples=["10.77.0.10"],
    )
    secret: ClusterSecret | None = Field(
        default=None,
        repr=False,
        description="By which a worker proves that it belongs to the deployment: the same for all machines. In a file "
        "of `hosts/`: `${secret.cluster}`.",
        examples=["9d53…"],
    )
    key: ClusterKey | None = Field(
        default=None,
        repr=False,
        description="For the master: the private key (Ed25519) by which workers know it. In a file of `hosts/`: "
        "`${key.cluster}`.",
        examples=["-----BEGIN PRIVATE KEY-----\n…\n-----END PRIVATE KEY-----\n"],
    )
    pin: Pin | None = Field(
        default=None,
        description="For workers: the pin of the master's key. In a file of `hosts/`: `${pin.cluster}`.",
        examples=["sha256:4f1c…"],
    )


class Metrics(Table):
    """Figures for Prometheus, of the machine and of the hub."""

    allow: tuple[SourceNetwork, ...] = Field(
        default=(),
        description="Who may read them: the addresses that a Prometheus comes from. Without any they are off.",
        examples=[["192.0.2.17", "10.77.0.0/24"]],
    )


class Idle(Table):
    """What happens to servers and kernels that nobody uses."""

    cull_after: Duration = Field(
        default=3600,
        description='Servers without activity for so long are stopped. `"0s"`: never.',
        examples=["2h"],
    )
    every: Duration = Field(
        default=300,
        ge=10,
        description="How often the hub looks for idle servers.",
        examples=["10m"],
    )
    kernels_after: Duration = Field(
        default=3600,
        description='Kernels that compute nothing and that no browser looks at for so long are stopped. `"0s"`: never.',
        examples=["12h"],
    )


class Homes(Table):
    """The users' files."""

    quota: Size = Field(
        default=2 * 1024**3,
        ge=1024**2,
        description="How much each user may store in the home.",
        examples=["5G"],
    )
    shared: Bool = Field(
        default=True,
        description="A folder `shared` in every home, which all users can read and admins can write.",
        examples=[False],
    )


class Data(Table):
    """Where homes and state live."""

    volume: Volume | None = Field(
        default=None,
        description="The attached volume for the homes and the hub's state, so that a newer machine can take them "
        'over: its serial number (in OpenStack the ID of the volume), or `"auto"` for the only one there is. A blank '
        "volume gets a file system; one that holds anything else is refused. Without it they are on the system disk.",
        examples=["auto", "2f7c1d5e-6a0b-4c39-9d53-0c1c8f1f6b1e"],
    )


class Settings(Table):
    """All of ``/etc/hubsmith/settings.toml``."""

    hub: Hub = Hub()
    tls: Tls = Tls()
    auth: Auth = Auth()
    users: tuple[User, ...] = ()
    spawner: Spawner = Spawner()
    idle: Idle = Idle()
    homes: Homes = Homes()
    data: Data = Data()
    cluster: Cluster = Cluster()
    metrics: Metrics = Metrics()
