"""The certificate with which the parts of a SeaweedFS server authenticate each other; others get no answer from them.

`python certificate.py weed server ...` writes it into the current folder and then executes that command. So
infra/compose.yaml runs this file, without the rest of the project.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import product
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PAIR = "tls.pem"
"""Name of the file with a self-signed certificate for 127.0.0.1 and its private key."""
SECURITY = f'[grpc]\nca = "{PAIR}"\n' + "".join(
    f'[{kind}.{part}]\ncert = "{PAIR}"\nkey = "{PAIR}"\nca = "{PAIR}"\n'
    for kind, part in product(("grpc", "https"), ("master", "volume", "filer", "s3", "client"))
) + "enabled = true\n"  # fmt: skip
"""Content of security.toml: TLS for gRPC and, except in the S3 interface, for HTTP. The last table is https.client."""


def make(folder: Path) -> None:
    """Write a new certificate with its key, readable by its owner alone, and security.toml into a folder."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cspipe")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (folder / PAIR).unlink(missing_ok=True)
    (folder / PAIR).touch(mode=0o600)
    (folder / PAIR).write_bytes(secret + made.sign(key, hashes.SHA256()).public_bytes(pem))
    (folder / "security.toml").write_text(SECURITY)


if __name__ == "__main__":
    make(Path.cwd())
    os.execvp(sys.argv[1], sys.argv[1:])
