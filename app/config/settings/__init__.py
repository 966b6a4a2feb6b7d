"""The settings: what base says, then what the environment named by DJANGO_ENV says.

Use this package (DJANGO_SETTINGS_MODULE=config.settings), never one of its modules alone.
"""

from importlib import import_module

from config import env

DJANGO_ENV = env.choice("DJANGO_ENV", ("development", "production", "test"), default="development")

for _layer in ("base", DJANGO_ENV):
    _module = import_module(f"{__name__}.{_layer}")
    globals().update({name: value for name, value in vars(_module).items() if name.isupper()})
