"""What may be assigned to a field; all raise ValueError but IsInstance, which raises TypeError."""


class Validator:
    """Base of all, also of a module's own: raise from `validate`."""

    def validate(self, value):
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value):
        if value is None:
            raise ValueError("the value must not be None")


class IsInstance(Validator):
    def __init__(self, classOrTuple):
        self.classOrTuple = classOrTuple

    def validate(self, value):
        if value is not None and not isinstance(value, self.classOrTuple):
            raise TypeError(f"{value!r} is a {type(value).__name__}, not a {self.classOrTuple}")


class WithinRange(Validator):
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} lies outside {self.minimum}..{self.maximum}")


class Minimum(Validator):
    def __init__(self, minimum):
        self.minimum = minimum

    def validate(self, value):
        if value < self.minimum:
            raise ValueError(f"{value} is less than {self.minimum}")


class Maximum(Validator):
    def __init__(self, maximum):
        self.maximum = maximum

    def validate(self, value):
        if value > self.maximum:
            raise ValueError(f"{value} is greater than {self.maximum}")


class Choice(Validator):
    def __init__(self, choices):
        self.choices = choices

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is not among {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues):
        self.excludedValues = excludedValues

    def validate(self, value):
        if value in self.excludedValues:
            raise ValueError(f"{value!r} is excluded")


class RangeBounds(Validator):
    """Both ends of a FloatRange."""

    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value):
        if value.minimum < self.minimum or value.maximum > self.maximum:
            raise ValueError(f"{value.minimum}..{value.maximum} lies outside {self.minimum}..{self.maximum}")
