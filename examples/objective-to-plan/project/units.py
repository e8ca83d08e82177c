def feet(metres):
    return metres / 0.3048
