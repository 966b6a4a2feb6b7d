"""Somebody signs in, finds a template, fills it in and copies the prompt, in a real browser and at two widths.

The browser trusts the ACME server's root and nothing is waved through: TLS, headers and the content security policy are
those of the site. Pictures are kept in .cache/test/browser.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator

import pytest
from machine import DOMAINS, HOST, NETWORK, ROOT, Machine, hosts
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.remote_connection import ChromeRemoteConnection
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions as condition
from selenium.webdriver.support.wait import WebDriverWait

BROWSER = "groundwork-site-browser"
PICTURES = ROOT / ".cache" / "test" / "browser"
SITE = f"https://{DOMAINS['forge']}"
WIDTHS = {"desktop": 1280, "phone": 390}

MAKE_USER = f"""
from django.contrib.auth import get_user_model
from forge.models import Template
for width in {sorted(WIDTHS)}:
    user, _made = get_user_model().objects.get_or_create(username=f"reader-{{{{width}}}}")
    user.set_password("{{password}}")
    user.save()

user, _made = get_user_model().objects.get_or_create(username="editor", is_staff=True, is_superuser=True)
user.set_password("{{password}}")
user.save()
Template.objects.update_or_create(slug="greet-somebody", defaults={{{{
    "title": "Greet somebody", "agent_role": "Host", "workflow_phase": "discover",
    "body": "Greet {{{{{{{{ name }}}}}}}} in {{{{{{{{ language }}}}}}}}.",
}}}})
"""


@pytest.fixture(scope="module")
def password(converged: Machine) -> str:
    """The password of the users that are made for these tests on the host, one for each width."""
    made = secrets.token_urlsafe(24)
    hosts.docker("exec", "-i", HOST, "forge-manage", "shell", "--verbosity", "0", stdin=MAKE_USER.format(password=made))
    return made


@pytest.fixture(scope="module")
def driver_url(converged: Machine) -> Iterator[str]:
    """A browser's driver, on the network of the host."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    hosts.remove([BROWSER])
    try:
        yield hosts.start_browser(BROWSER, NETWORK, [converged.acme_root])
    finally:
        hosts.remove([BROWSER])


@pytest.fixture(params=sorted(WIDTHS))
def browser(request, driver_url) -> Iterator[webdriver.Remote]:
    """A fresh browser of a width, in a fresh profile."""
    options = webdriver.ChromeOptions()
    options.add_argument("--headless=new")
    # The sandbox of the container is the one that counts here.
    options.add_argument("--no-sandbox")
    options.add_argument("--window-size=1280,940")
    if request.param == "phone":
        metrics = {"width": WIDTHS["phone"], "height": 844, "pixelRatio": 2.0, "mobile": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Remote(ChromeRemoteConnection(driver_url), options=options)
    try:
        made.name_of_width = request.param
        yield made
    finally:
        made.quit()


def picture(browser, name: str) -> None:
    browser.save_screenshot(str(PICTURES / f"{name}-{browser.name_of_width}.png"))
    too_wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.execute_script(too_wide) <= 0, f"{name} scrolls sideways"


def wait(browser) -> WebDriverWait:
    # Between two pages the driver finds elements of neither.
    return WebDriverWait(browser, 20, ignored_exceptions=[WebDriverException])


def sign_in(browser, name: str, password: str) -> None:
    browser.get(f"{SITE}/login/")
    browser.find_element(By.NAME, "username").send_keys(name)
    browser.find_element(By.NAME, "password").send_keys(password)
    browser.find_element(By.CSS_SELECTOR, "main form button").click()
    wait(browser).until(condition.presence_of_element_located((By.ID, "search")))


def complaints(browser) -> list[str]:
    """What the console says since it was last asked that is wrong: scripts, styles, pictures, policies."""
    log = browser.execute("getLog", {"type": "browser"})["value"]
    return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


def forbidden(browser) -> list[str]:
    """What of it is about the policy."""
    return [message for message in complaints(browser) if "Content Security Policy" in message]


def violations(machine: Machine) -> list[dict]:
    """What browsers have reported to the site."""
    return [json.loads(line) for line in machine.shell("cat /var/log/nginx/forge.csp.log").splitlines()]


EVERYBODYS = ("/", "/?q=greet", "/login/", "/templates/greet-somebody/", "/api/docs/", "/admin/login/")
EDITORS = (
    *("/", "/templates/greet-somebody/", "/favourites/", "/admin/", "/admin/forge/template/", "/admin/auth/user/"),
    *(
        "/admin/forge/template/add/",
        "/admin/forge/template/?q=greet",
        "/admin/auth/user/add/",
        "/admin/auth/group/add/",
    ),
    "/admin/password_change/",
)


def test_pages_keep_to_the_policy_of_the_site(browser, password, converged):
    reported = len(violations(converged))

    def walk(paths: tuple[str, ...]) -> None:
        for path in paths:
            browser.get(f"{SITE}{path}")
            assert "Not Found" not in browser.title, path
            assert forbidden(browser) == [], path

    walk(EVERYBODYS)
    sign_in(browser, "editor", password)
    walk(EDITORS)
    browser.get(f"{SITE}/admin/forge/template/?q=greet")
    browser.find_element(By.CSS_SELECTOR, "#result_list tbody th a").click()
    wait(browser).until(condition.presence_of_element_located((By.NAME, "_save")))
    assert forbidden(browser) == []
    assert violations(converged)[reported:] == []


def test_a_script_from_elsewhere_does_not_run_and_is_reported(browser, converged):
    reported = len(violations(converged))
    browser.get(f"{SITE}/login/?next=/sentinel")
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.ran = true';"
        "document.body.append(script)"
    )
    assert browser.execute_script("return window.ran") is None
    assert len(forbidden(browser)) == 1
    wait(browser).until(lambda _browser: violations(converged)[reported:])
    (entry,) = violations(converged)[reported:]
    told = {name: entry[name] for name in ("host", "page", "directive", "blocked", "disposition")}
    assert told == {
        "host": DOMAINS["forge"],
        "page": f"{SITE}/login/",
        "directive": "script-src-elem",
        "blocked": "inline",
        "disposition": "enforce",
    }
    assert "sentinel" not in json.dumps(entry)


def test_a_reader_signs_in_finds_fills_and_copies(browser, password):
    browser.get(f"{SITE}/")
    picture(browser, "list")
    browser.find_element(By.LINK_TEXT, "Sign in").click()
    browser.find_element(By.NAME, "username").send_keys(f"reader-{browser.name_of_width}")
    browser.find_element(By.NAME, "password").send_keys(password)
    picture(browser, "login")
    browser.find_element(By.CSS_SELECTOR, "main form button").click()
    wait(browser).until(condition.presence_of_element_located((By.ID, "search")))

    browser.find_element(By.ID, "search").send_keys("greet")
    browser.find_element(By.ID, "find").click()
    wait(browser).until(condition.url_contains("q=greet"))
    browser.find_element(By.PARTIAL_LINK_TEXT, "Greet somebody").click()
    wait(browser).until(condition.presence_of_element_located((By.ID, "variables")))

    browser.find_element(By.CSS_SELECTOR, "#variables [data-fills=name]").send_keys("Ada")
    browser.find_element(By.CSS_SELECTOR, "#variables [data-fills=language]").send_keys("Greek")
    assert browser.find_element(By.ID, "prompt").text == "Greet Ada in Greek."
    browser.find_element(By.ID, "copy").click()
    wait(browser).until(condition.text_to_be_present_in_element((By.ID, "copied"), "Copied"))
    picture(browser, "prompt")
    page = browser.current_url
    browser.find_element(By.ID, "generate").click()
    wait(browser).until(condition.url_contains("#prompt-heading"))
    wait(browser).until(condition.text_to_be_present_in_element((By.ID, "prompt"), "Greet Ada in Greek."))

    browser.get(f"{SITE}/")
    search = browser.find_element(By.ID, "search")
    search.send_keys(Keys.CONTROL, "v")
    assert search.get_property("value") == "Greet Ada in Greek."
    browser.get(page)
    wait(browser).until(condition.presence_of_element_located((By.ID, "favourite")))
    browser.find_element(By.CSS_SELECTOR, "#favourite button").click()
    kept = (By.CSS_SELECTOR, "#favourite button[value=false]")
    wait(browser).until(condition.presence_of_element_located(kept))
    browser.get(f"{SITE}/favourites/")
    assert browser.find_element(By.PARTIAL_LINK_TEXT, "Greet somebody").is_displayed()
    assert complaints(browser) == []
