"""The gallery of a corpus folder: `page.write_gallery` makes one HTML file."""
