"""Conformance suites and fakes for those who write an adapter.

Each suite is a class of pytest tests: subclass it in your own tests and give it the fixture it names. It needs pytest.

    from trunkline.testing.registry_suite import RegistrySuite

    class TestOurRegistry(RegistrySuite):
        @pytest.fixture
        def registry(self):
            return OurRegistry(...)
"""
