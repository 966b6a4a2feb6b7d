"""Put six templates into an empty library, so that a fresh site shows what it is for."""

from textwrap import dedent

from django.db import migrations

EXAMPLES = [
    {
        "title": "Sort a bug report",
        "slug": "sort-a-bug-report",
        "agent_role": "Support engineer",
        "workflow_phase": "discover",
        "body": """\
            You sort incoming bug reports for {{ product }}.

            Read the report below. Answer with four lines and nothing else:
            1. What the person did, saw and expected, in one sentence.
            2. How bad it is: data lost, work blocked, or an annoyance.
            3. The smallest set of steps that should show it again.
            4. The one question to ask back, if the steps are not certain.

            Do not guess a cause. Quote the report where you are unsure.

            Report:
            {{ report }}
        """,
    },
    {
        "title": "Plan a change in small steps",
        "slug": "plan-a-change-in-small-steps",
        "agent_role": "Architect",
        "workflow_phase": "plan",
        "body": """\
            Plan this change to {{ repository }}: {{ change }}

            Read the code it touches before you write a word.
            Then list the steps, each small enough to review in ten minutes and safe to deploy alone.
            For each step say:
            - which files change, and why these;
            - which test fails before it and passes after it;
            - how to go back.

            Put the step that could prove the whole plan wrong first. Keep to {{ constraints }}.
        """,
    },
    {
        "title": "Write the failing test first",
        "slug": "write-the-failing-test-first",
        "agent_role": "Developer",
        "workflow_phase": "build",
        "body": """\
            The behaviour to build: {{ behaviour }}

            Write one test in {{ test_file }} that fails because the behaviour is missing, and for no other reason.
            Run it and show the failure. Only then write the least code that lets it pass.
            Run the whole suite with {{ test_command }} before you call it done, and show the last lines.
        """,
    },
    {
        "title": "Review a diff with a verdict",
        "slug": "review-a-diff-with-a-verdict",
        "agent_role": "Reviewer",
        "workflow_phase": "review",
        "body": """\
            Review this diff as somebody who will be on call for it. Its purpose: {{ purpose }}

            Begin with a verdict: merge, merge after changes, or do not merge.
            Then name at most five findings, the worst first.
            Each has a file and line, what goes wrong, an input that shows it, and a fix.
            Leave out taste. If you find nothing, say what you checked.

            {{ diff }}
        """,
    },
    {
        "title": "Tell users what changed",
        "slug": "tell-users-what-changed",
        "agent_role": "Release manager",
        "workflow_phase": "release",
        "body": """\
            Write the notes for version {{ version }} from the commits below.

            The reader uses the product and has never seen its code. Lead with what they must do, if anything.
            Then what is new, then what is mended, one line each, in the words they would use.
            Drop everything they cannot notice. Promise nothing that is not in the commits.

            {{ commits }}
        """,
    },
    {
        "title": "Put an incident in order",
        "slug": "put-an-incident-in-order",
        "agent_role": "On-call engineer",
        "workflow_phase": "operate",
        "body": """\
            Build the timeline of the incident on {{ service }} from the logs and messages below.

            One line an event: time in UTC, what happened, where you read it.
            Mark every gap longer than {{ gap_minutes }} minutes.
            Keep what people thought at the time apart from what the logs prove.
            End with the moment users first noticed, the moment we did, and the minutes between.

            {{ material }}
        """,
    },
]


def add_examples(apps, schema_editor):
    template = apps.get_model("forge", "Template")
    if not template.objects.exists():
        template.objects.bulk_create(template(**{**entry, "body": dedent(entry["body"])}) for entry in EXAMPLES)


class Migration(migrations.Migration):
    dependencies = [("forge", "0001_initial")]

    # Going back keeps the rows: by then somebody may have edited them.
    operations = [migrations.RunPython(add_examples, migrations.RunPython.noop, elidable=True)]
