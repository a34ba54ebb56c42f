import json
import time

import pytest

from voting.observability import NAMESPACE, SERVICE, count


def test_a_count_is_a_line_of_embedded_metrics_with_the_time_and_number_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before_ms = time.time_ns() // 1_000_000
    count("RequestsRefused", 3, code="too_large")
    count("RequestsRefused", 4, code="too_large")
    count("RequestsRefused", code="bad_base64")
    lines = capsys.readouterr().out.splitlines()
    for line, number, code in zip(lines, (3, 4, 1), ("too_large", "too_large", "bad_base64"), strict=True):
        written = json.loads(line)
        assert before_ms <= written["_aws"].pop("Timestamp") <= time.time_ns() // 1_000_000
        metric = {
            "Namespace": NAMESPACE,
            "Dimensions": [["service", "code"]],
            "Metrics": [{"Name": "RequestsRefused", "Unit": "Count"}],
        }
        assert written == {
            "_aws": {"CloudWatchMetrics": [metric]},
            "service": SERVICE,
            "code": code,
            "RequestsRefused": [float(number)],
        }
