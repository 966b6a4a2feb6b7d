"""The templates as JSON, to be read only: by everybody, since the pages show everybody the same."""
