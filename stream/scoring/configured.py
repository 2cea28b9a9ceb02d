"""What the settings say of scoring: one scorer for the worker and for a log, so that neither can differ."""

from collections.abc import Callable

from stream.bundle.onnx import Bundle
from stream.core.list_triggers import Clock
from stream.formats.decoding import Decoder
from stream.recommend.list_filters import Rules
from stream.recommend.shop_catalog import Catalog
from stream.records import Limits
from stream.scoring.scorer import Scorer
from stream.settings import Settings


def limits(settings: Settings) -> Limits:
    """Return the sizes and spans that records are held to."""
    sizes = settings.max_event_bytes, settings.max_dead_letter_bytes, settings.max_future_seconds * 1000
    return Limits(*sizes, settings.max_id_characters, settings.printable_ids)


def catalog(settings: Settings, bundle: Bundle) -> Catalog:
    """Return the bundle's own catalog under the rules of the settings, before the shop has said anything."""
    categories = [name for name in settings.only_categories.split(",") if name]
    rules = categories, settings.category_cap, settings.exclude_bought
    only_named = settings.catalog_only and bool(settings.catalog_topic)
    ids = settings.max_id_characters, settings.printable_ids
    return Catalog(bundle.vocabulary, *rules, only_named, settings.unseen_users, *ids)


def scorer(
    settings: Settings,
    bundle: Bundle,
    source: str,
    rules: Callable[[], Rules] | None = None,
    decoder: Decoder | None = None,
) -> Scorer:
    """Make the scorer of a topic or log `source`; without `rules` those of the settings hold."""
    return Scorer(
        bundle,
        settings.recommend,
        limits(settings),
        source,
        settings.explain,
        Clock(settings.recommend_on, settings.recommend_every, settings.recommend_moved, settings.recommend_last),
        rules or catalog(settings, bundle).rules,
        decoder,
        settings.max_users,
    )
