"""Pictures as SVG text, drawn by the server: data in, markup out, no I/O."""
