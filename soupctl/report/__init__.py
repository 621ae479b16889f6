"""The page about a soup: what it is made of, how far it is proven, and how it was chosen.

- `facts.py`: what is found out about the soup and its ingredients
- `page.py`: the page; `sections.py`: its parts; `style.py`: its looks; `images/` draws charts
- `publish.py`: the command
"""
