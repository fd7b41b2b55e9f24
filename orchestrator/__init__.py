"""Decides: definitions, expressions, submission, the completion callback, dispatch and the recovery loops."""
