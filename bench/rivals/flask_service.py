"""The vote service of the container voting app, as far as a benchmark needs it: Flask, one LPUSH per vote, a cookie.

`gunicorn bench.rivals.flask_service:app` serves it. It is faster than the original, which renders its page after each
vote and opens a new connection to Redis for it.
"""

import json
import os
import secrets

from flask import Flask, Response, make_response, request
from redis import Redis

app = Flask(__name__)
redis = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=5)


@app.post("/")
def vote() -> Response:
    """Queue the vote in the form for the voter in the cookie."""
    voter_id = request.cookies.get("voter_id") or secrets.token_hex(8)[:-1]
    choice = request.form["vote"]
    redis.lpush("votes", json.dumps({"voter_id": voter_id, "vote": choice}))
    answer = make_response({"vote": choice})
    answer.set_cookie("voter_id", voter_id)
    return answer
