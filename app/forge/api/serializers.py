from rest_framework import serializers

from ..models import Template


class TemplateSummarySerializer(serializers.ModelSerializer):
    """A template in a list: all but its body."""

    page = serializers.SerializerMethodField(help_text="The address of its page.")
    variables = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = Template
        fields = ["slug", "title", "agent_role", "workflow_phase", "variables", "updated", "page"]
        read_only_fields = fields

    def get_page(self, template: Template) -> str:
        return self.context["request"].build_absolute_uri(template.get_absolute_url())


class TemplateSerializer(TemplateSummarySerializer):
    """A whole template."""

    version = serializers.IntegerField(
        read_only=True, allow_null=True, help_text="How often its wording changed, counted from 1."
    )

    class Meta(TemplateSummarySerializer.Meta):
        fields = [*TemplateSummarySerializer.Meta.fields, "body", "version", "attachment", "created"]
        read_only_fields = fields


class RefusalSerializer(serializers.Serializer):
    """Why there is no answer."""

    detail = serializers.CharField()


class MistakesSerializer(serializers.Serializer):
    """What is wrong with each parameter that is wrong."""

    cursor = serializers.ListField(child=serializers.CharField(), required=False)
    q = serializers.ListField(child=serializers.CharField(), required=False)
    phase = serializers.ListField(child=serializers.CharField(), required=False)
    role = serializers.ListField(child=serializers.CharField(), required=False)
