"""The certificates that a database of RDS is verified against, as OpenSSL reads them."""

import hashlib
import re
import ssl
import time
from pathlib import Path

import pytest

BUNDLE = Path(__file__).parents[2] / "layers/voting/voting/rds-ca-bundle.pem"
AUTHORITIES = {"RSA2048 G1", "RSA4096 G1", "ECC384 G1"}
TEN_YEARS_S = 10 * 365 * 86400
# docs/decisions/0011-rds-ca-bundle.md says which are left out, and why.
REGIONS = {
    *("af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2"),
    *("ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "eu-central-1"),
    *("eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1"),
    *("me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2"),
}


@pytest.fixture(scope="module")
def certificates() -> list[dict[str, object]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(BUNDLE)
    return context.get_ca_certs()


def name_of(certificate: dict[str, object], part: str) -> str:
    pairs: dict[str, str] = dict(pair[0] for pair in certificate[part])  # type: ignore[attr-defined] # see ssl
    return pairs["commonName"]


def test_only_roots_of_amazon_rds_are_in_it_and_each_can_be_read(certificates) -> None:
    assert len(certificates) == BUNDLE.read_text().count("-----BEGIN CERTIFICATE-----")
    for certificate in certificates:
        assert certificate["subject"] == certificate["issuer"]
        assert name_of(certificate, "subject").startswith("Amazon RDS ")


def test_each_region_has_all_three_authorities(certificates) -> None:
    names = {name_of(certificate, "subject") for certificate in certificates}
    assert names == {f"Amazon RDS {region} Root CA {kind}" for region in REGIONS for kind in AUTHORITIES}
    assert len(names) == len(certificates)


def test_none_expires_before_anybody_thinks_of_it(certificates) -> None:
    """The clock is asked for real: the test begins to fail ten years before a database could not be reached."""
    now_s = time.time()
    for certificate in certificates:
        assert ssl.cert_time_to_seconds(certificate["notBefore"]) < now_s
        assert ssl.cert_time_to_seconds(certificate["notAfter"]) > now_s + TEN_YEARS_S


def test_the_certificates_are_those_that_were_compared() -> None:
    """With another source, as docs/decisions/0011-rds-ca-bundle.md tells: whoever changes them compares anew."""
    pems = re.findall(r"-----BEGIN.+?END CERTIFICATE-----\n", BUNDLE.read_text(), re.DOTALL)
    prints = sorted(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() for pem in pems)
    digest = hashlib.sha256("\n".join(prints).encode()).hexdigest()
    decision = (Path(__file__).parents[2] / "docs/decisions/0011-rds-ca-bundle.md").read_text()
    assert f"`{digest}`" in decision
