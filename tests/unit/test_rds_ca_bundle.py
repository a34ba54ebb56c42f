"""The certificates that a database of RDS is verified against, as OpenSSL reads them."""

import ssl
from pathlib import Path

import pytest

BUNDLE = Path(__file__).parents[2] / "layers/voting/voting/rds-ca-bundle.pem"
TWENTY_YEARS_S = 20 * 365 * 86400


@pytest.fixture(scope="module")
def certificates() -> list[dict[str, object]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(BUNDLE)
    return context.get_ca_certs()


def name_of(certificate: dict[str, object], part: str) -> str:
    pairs: dict[str, str] = dict(pair[0] for pair in certificate[part])  # type: ignore[attr-defined] # see ssl
    return pairs["commonName"]


def test_only_roots_of_amazon_rds_are_in_it(certificates) -> None:
    assert len(certificates) == BUNDLE.read_text().count("-----BEGIN CERTIFICATE-----")
    for certificate in certificates:
        assert certificate["subject"] == certificate["issuer"]
        assert name_of(certificate, "subject").startswith("Amazon RDS ")


def test_none_expires_before_anybody_thinks_of_it(certificates) -> None:
    for certificate in certificates:
        lasts_s = ssl.cert_time_to_seconds(certificate["notAfter"]) - ssl.cert_time_to_seconds(certificate["notBefore"])
        assert lasts_s > TWENTY_YEARS_S


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1", "ap-southeast-2"])
def test_the_authority_that_the_template_names_is_there(certificates, region: str) -> None:
    names = {name_of(certificate, "subject") for certificate in certificates}
    assert f"Amazon RDS {region} Root CA RSA2048 G1" in names
