package forecart;

import java.util.Map;

/** A score as it is published. */
public record Score(
    String event_id,
    String user_id,
    Source source,
    long event_time,
    long scored_at,
    String model,
    Map<String, Double> intent,
    Session session) {

    /** Where the event lay in the input topic. */
    public record Source(int partition, long offset) {}

    /** The session that the event belongs to. */
    public record Session(int length, long started) {}

    static Score of(Peer.Event event, int partition, long offset, String model, Map<String, Double> intent) {
        return new Score(
            event.event_id(), event.user_id(), new Source(partition, offset), event.timestamp(),
            System.currentTimeMillis(), model, intent, new Session(1, event.timestamp()));
    }
}
