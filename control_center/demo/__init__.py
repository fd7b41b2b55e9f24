"""`afu9 demo-data`: a small company's week of executions, made up but gone through the real transitions."""
