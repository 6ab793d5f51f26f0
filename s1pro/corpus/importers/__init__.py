"""Elements that other layout programs have found, as rows of this pipeline: MinerU and Docling.

`read.read_layout` takes a file or folder of either and returns the document, its pages and its elements.
"""
