def slug(title):
    raise NotImplementedError
