"""What the walk through the description checks beyond schemathesis's own checks.

`tests/it/schemathesis.rs` starts schemathesis with this module and with a file that names things that
exist: random names alone would only ever be answered 404.
"""

import collections
import json
import os
import pathlib

import schemathesis

FOLDER = pathlib.Path(os.environ["CM_WALK_FOLDER"])
# For each operation (`POST /api/...`, or `*`) the path parameters that name something.
KNOWN = json.loads((FOLDER / "known.json").read_text())

calls = collections.Counter()
answers = collections.defaultdict(collections.Counter)
# Earlier walks of the same test are counted on.
ANSWERS = FOLDER / "answers.json"
if ANSWERS.exists():
    for operation, counts in json.loads(ANSWERS.read_text()).items():
        answers[operation].update(counts)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Three of four requests are about something that exists, and have a key of their own.

    What ends things is only ever about what is there to be ended: the others need the rest.
    """
    label = f"{case.operation.method.upper()} {case.operation.path}"
    calls[label] += 1
    count = calls[label]
    known = KNOWN.get(label, KNOWN["*"])
    ending = isinstance(known, list)
    if ending:
        known = known[count % len(known)]
    if count % 4 == 0 and not ending:
        return
    for name in case.path_parameters or {}:
        if name in known:
            case.path_parameters[name] = known[name]
    for name in list(case.headers or {}):
        if name.lower() == "idempotency-key":
            case.headers[name] = f"key-{sum(calls.values())}"


@schemathesis.hook
def after_call(context, case, response):
    label = f"{case.operation.method.upper()} {case.operation.path}"
    answers[label][str(response.status_code)] += 1
    ANSWERS.write_text(json.dumps(answers))


@schemathesis.check
def no_failure_of_the_server(context, response, case):
    """501 and 503 say what is missing; that they are documented is another check."""
    if response.status_code >= 500 and response.status_code not in (501, 503):
        raise AssertionError(f"the server failed: {response.status_code} {response.text}")


@schemathesis.check
def errors_are_in_the_common_form(context, response, case):
    """Every error has a code, a sentence and the id under which it can be found."""
    if response.status_code < 400:
        return
    try:
        body = response.json()
    except ValueError:
        asked = f"{case.method} {case.path}"
        raise AssertionError(f"{asked}: {response.status_code} is not JSON: {response.text!r}, "
                             f"{dict(response.headers)}, {case.as_curl_command()}") from None
    for member in ("status", "code", "message", "requestId"):
        if not isinstance(body.get(member), str) or not body[member]:
            raise AssertionError(f"no `{member}` in {response.text}")
    if response.headers.get("x-request-id", [""])[0] == "":
        raise AssertionError("no x-request-id")
