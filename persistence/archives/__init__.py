"""Executions in files: where the files are, what is in them, and the rows that they hold.

An archive is a directory: `manifest.json`, and files `00001.jsonl.gz`, `00002.jsonl.gz`, … of whole executions.
docs/retention.md describes both for readers that are not ours.
"""
