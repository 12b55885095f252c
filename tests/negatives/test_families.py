from synood_ray.negatives.families import children, cousins, related_forms


def test_siblings_come_before_cousins() -> None:
    kin = children("owl")
    assert {"eagle", "hawk", "vulture"} <= set(kin[:8]) and "swan" in kin[8:]
    assert {"eagle", "swan"} <= cousins("owls") and "zebra" not in cousins("owl")
    assert children("no such word") == [] == sorted(cousins("no such word"))


def test_every_name_of_a_class_has_a_family() -> None:
    assert {"hawk", "lemon"} <= set(children("owl, orange"))


def test_what_lies_above_and_below_a_class() -> None:
    forms = related_forms(("owl",))
    assert {"owl", "bird of prey", "bird", "horned owl"} <= forms and "hawk" not in forms
