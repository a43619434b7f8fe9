"""An authority whose certificates tests give to nodes and to etcd; ``openssl`` makes them."""

import shutil
import subprocess

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="certificates are made by openssl"
)
NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """Vouches for certificates."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.path = str(folder / "ca.pem")
        self.openssl("req", "-x509", *NEW_KEY, "-subj", "/CN=authority", "-days", "2",
                     "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip

    def certify(
        self, name, *, names="IP:127.0.0.1", usage="serverAuth,clientAuth", days=2, password=""
    ):
        """Return the files of a new certificate and its key."""
        (self.folder / "extensions").write_text(
            f"subjectAltName={names}\nextendedKeyUsage={usage}\n"
        )
        self.openssl("req", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                     "-out", f"{name}.csr")  # fmt: skip
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                     "-CAcreateserial", "-days", str(days), "-extfile", "extensions",
                     "-out", f"{name}.pem")  # fmt: skip
        if password:
            self.openssl("ec", "-in", f"{name}.key", "-aes128", "-passout", f"pass:{password}",
                         "-out", f"{name}.key")  # fmt: skip
        return {"cert": str(self.folder / f"{name}.pem"), "key": str(self.folder / f"{name}.key")}

    def certify_from(self, name, begin, end):
        """Return the files of a certificate that is valid between two dates, as 20300101000000Z."""
        files = self.certify(name)
        (self.folder / "database").write_text("")
        (self.folder / "settings").write_text(
            "[ca]\ndefault_ca=it\n[it]\ndatabase=database\nnew_certs_dir=.\nrand_serial=yes\n"
            "default_md=sha256\npolicy=names\n[names]\ncommonName=supplied\n"
        )
        self.openssl("ca", "-batch", "-config", "settings", "-cert", "ca.pem", "-keyfile", "ca.key",
                     "-in", f"{name}.csr", "-extfile", "extensions", "-startdate", begin,
                     "-enddate", end, "-notext", "-out", f"{name}.pem")  # fmt: skip
        return files

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.folder, check=True, capture_output=True)
