"""The disk: atomic writes, regular files, folders and streams; knows no soup and no format."""
