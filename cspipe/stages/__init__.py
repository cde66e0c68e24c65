"""The stages of dvc.yaml: each reads params.yaml and files, calls the library, writes files."""
