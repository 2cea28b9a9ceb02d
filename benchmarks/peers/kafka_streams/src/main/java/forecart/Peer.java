package forecart;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** Scores by Kafka Streams as it comes: a processor, an in-memory store of states with its changelog. */
public final class Peer {
    private static final String STATES = "states";

    /** An event of the input topic. */
    public record Event(String event_id, String user_id, String type, String item_id, long timestamp) {}

    /** Scores one event after another. */
    private static final class Scoring implements Processor<String, byte[], String, byte[]> {
        private final ObjectMapper json = new ObjectMapper();
        private final Model model;
        private ProcessorContext<String, byte[]> context;
        private KeyValueStore<String, byte[]> states;

        Scoring(Model model) {
            this.model = model;
        }

        @Override
        public void init(ProcessorContext<String, byte[]> context) {
            this.context = context;
            this.states = context.getStateStore(STATES);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            try {
                Event event = json.readValue(record.value(), Event.class);
                Model.Answer answer = model.step(event.item_id(), event.type(), states.get(event.user_id()));
                states.put(event.user_id(), answer.state());
                var at = context.recordMetadata().orElseThrow();
                Score score = Score.of(event, at.partition(), at.offset(), model.name(), answer);
                context.forward(record.withValue(json.writeValueAsBytes(score)));
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
        }
    }

    /** Arguments: BROKER EVENTS SCORES GROUP BUNDLE FOLDER GUARANTEE. */
    public static void main(String[] given) throws Exception {
        Properties properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, given[0]);
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, given[3]);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, given[5]);
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, given[6]);
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        Model model = new Model(Path.of(given[4]));

        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(
            Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(STATES), Serdes.String(), Serdes.ByteArray()));
        builder.stream(given[1], Consumed.with(Serdes.String(), Serdes.ByteArray()))
            .process(() -> new Scoring(model), STATES)
            .to(given[2], Produced.with(Serdes.String(), Serdes.ByteArray()));

        CountDownLatch ended = new CountDownLatch(1);
        try (KafkaStreams streams = new KafkaStreams(builder.build(), properties)) {
            streams.setStateListener((now, before) -> {
                if (now == KafkaStreams.State.ERROR) {
                    ended.countDown();
                }
            });
            Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
            streams.start();
            ended.await();
        }
    }
}
