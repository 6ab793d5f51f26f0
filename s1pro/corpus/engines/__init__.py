"""Engines behind HTTP that read pages which geometry cannot: layout models and OCR."""
