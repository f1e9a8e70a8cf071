# SPDX-License-Identifier: Apache-2.0
"""No query and no user information of a URL is shown anywhere."""

import logging

import pytest

from pippin.system.redaction import redact, redact_logs, split_sources, strip_url_secrets


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("https://host/0.tar?X-Signature=S", "https://host/0.tar"),
        ("https://me:pw@host:8080/{00..99}.tar", "https://host:8080/{00..99}.tar"),
        ("https://token@host/0.tar#key=S", "https://host/0.tar"),
        ("https://me:p@ss@host/0.tar?a=b", "https://host/0.tar"),
        ("https://me:p/s?s@host/0.tar", "https://host/0.tar"),
        ("http://[::1]:80/0.tar?a=b", "http://[::1]:80/0.tar"),
        ("http://127.0.0.1:80/a@b.tar", "http://127.0.0.1:80/a@b.tar"),
        ("s3://key:secret@bucket/a#1.tar?x=y", "s3://bucket/a#1.tar"),
        ("abfs://container@account.dfs/0.tar", "abfs://container@account.dfs/0.tar"),
        ("hf://datasets/a/b@main/0.tar", "hf://datasets/a/b@main/0.tar"),
        ("https://h/0.tar?s=1::b?.tar::s3://c/1.tar?s=2", "https://h/0.tar::b?.tar::s3://c/1.tar"),
        ("folder/what?.tar", "folder/what?.tar"),
    ],
)
def test_places_without_their_secrets(place, shown):
    assert strip_url_secrets(place) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("404, url='https://h/0.tar?sig=S'", "404, url='https://h/0.tar'"),
        ("(https://u:S@h/0.tar?sig=S), then", "(https://h/0.tar), then"),
        ("exceeded with url: /0.tar?sig=S (Caused by", "exceeded with url: /0.tar (Caused by"),
        ("zip://1.png::https://u:S@h/a.zip?sig=x::S", "zip://1.png::https://h/a.zip"),
        ("no folder https:/u:S@h/a?sig=S", "no folder https://h/a"),
        ("C:/a@b/c.png is not there", "C:/a@b/c.png is not there"),
        ("is it there? x = 3", "is it there? x = 3"),
        ("Bearer hf_0123456789abcdefGHIJ is refused", "Bearer  is refused"),
        ("no module hf_hub and hf_xet_uploads", "no module hf_hub and hf_xet_uploads"),
    ],
)
def test_messages_without_secrets(text, shown):
    assert redact(text) == shown
    assert redact(ValueError(text)) == shown


def test_secrets_of_a_source_are_removed_wherever_they_stand():
    source = "https://me:pass%40word@h/0.tar?sig=abc%2Fdef123&n=1"
    text = "cannot log in as me with pass@word; refused abc/def123 and sig=abc%2Fdef123&n=1"
    assert redact(text, source) == "cannot log in as me with ; refused  and "


def test_logs_of_libraries_are_redacted(caplog):
    logger = logging.getLogger("a_library_that_logs")
    logger.addHandler(caplog.handler)
    try:
        redact_logs("a_library_that_logs")
        logger.error("failed at %s", "https://h/0.tar?sig=S")
    finally:
        logger.removeHandler(caplog.handler)
        caplog.handler.filters.clear()
    assert caplog.messages == ["failed at https://h/0.tar"] * 2  # its own handler, and the root's


def test_addresses_with_colons_are_one_place():
    text = "http://[2001:db8::1]/0.tar::b.tar::http://[::1]:8/1.tar"
    assert split_sources(text) == ["http://[2001:db8::1]/0.tar", "b.tar", "http://[::1]:8/1.tar"]
