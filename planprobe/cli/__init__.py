"""The command line: one file per verb, each a thin layer over one Python call. The only room that prints or exits."""
