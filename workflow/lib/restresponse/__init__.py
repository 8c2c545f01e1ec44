"""The science of restresponse: plain functions on arrays, images and tables, one module or folder a stage."""

__version__ = "0.1.0"
