from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "operations"

    def ready(self) -> None:
        from axes.signals import user_locked_out

        from config import login_limit

        user_locked_out.connect(login_limit.log_blocked, dispatch_uid="operations.login_blocked")
