package forecart;

import com.fasterxml.jackson.annotation.JsonInclude;
import java.util.List;
import java.util.Map;

/** A score as it is published. */
@JsonInclude(JsonInclude.Include.NON_NULL)
public record Score(
    String event_id,
    String user_id,
    Source source,
    long event_time,
    long scored_at,
    String model,
    Map<String, Double> intent,
    Session session,
    List<Item> recommendations) {

    /** Where the event lay in the input topic. */
    public record Source(int partition, long offset) {}

    /** An item to come. */
    public record Item(String item_id, double score) {}

    /** The session that the event belongs to. */
    public record Session(int length, long started) {}

    static Score of(Peer.Event event, int partition, long offset, String model, Model.Answer answer) {
        List<Item> items = answer.items() == null ? null : answer.items().stream().map(id -> new Item(id, 0)).toList();
        return new Score(
            event.event_id(), event.user_id(), new Source(partition, offset), event.timestamp(),
            System.currentTimeMillis(), model, answer.intent(), new Session(1, event.timestamp()), items);
    }
}
