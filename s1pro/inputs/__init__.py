"""What goes into the model: token ids from text, molecules, sequences and conversations, patches from pictures.

    text ------------> tokenizer.Tokenizer --------------------------------> ids
                         special tokens | science tags and detection (detect) | plain text (byte_bpe) | science
                         (science_bpe)
    conversation ----> chat.ChatTemplate -> text with marks -> Tokenizer ---> ids, loss mask
    folder <---------> processor.Processor (tokenizer files + chat_template.jinja)
    picture ---------> images.load_image -> images.image_patches -----------> patches, grid
    video -----------> videos.prepare_video --------------------------------> patches, grid, timestamps
    own corpus ------> tokenizer_training.train_tokenizer -----------------> the same files, smaller

Training, serving and RL use these same functions, so a model sees in service what it saw in training. No torch in this
room; ids are lists of int, patches numpy arrays.
"""
