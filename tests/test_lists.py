"""The lists that choose the slow and the smoke tests name tests that exist."""


def test_every_test_that_a_list_names_is_there(missing_tests):
    """A renamed test stays in its list, and a smoke test is not marked slow.

    Under pytest-xdist the collection happens in workers, which can only fail a test: an error
    raised while they collect is shown as their crash, without its message.
    """
    assert missing_tests == []
