from typing import Any

from django import forms

from .models import ROLE_MAX_CHARACTERS, Phase

WORDS_MAX_CHARACTERS = 200
VALUE_MAX_CHARACTERS = 100_000


class FindForm(forms.Form):
    """What narrows the list: words, a role, a phase."""

    q = forms.CharField(required=False, max_length=WORDS_MAX_CHARACTERS)
    role = forms.CharField(required=False, max_length=ROLE_MAX_CHARACTERS)
    phase = forms.ChoiceField(required=False, choices=[("", "All"), *Phase.choices])


class PromptForm(forms.Form):
    """One field for each variable of a template. A field that is left empty leaves its variable in the prompt."""

    def __init__(self, variables: list[str], *args: Any, **kwargs: Any) -> None:
        # The prefix keeps a variable apart from the form's own fields, whatever its name.
        super().__init__(*args, prefix="value", **kwargs)
        for name in variables:
            self.fields[name] = forms.CharField(
                label=name.replace("_", " ").strip().capitalize() or name,
                required=False,
                strip=False,
                max_length=VALUE_MAX_CHARACTERS,
                widget=forms.Textarea(attrs={"rows": 2, "data-fills": name}),
            )

    @property
    def values(self) -> dict[str, str]:
        """The values that passed, with the line ends that a body has: a browser sends CR LF."""
        return {name: value.replace("\r\n", "\n") for name, value in getattr(self, "cleaned_data", {}).items() if value}
